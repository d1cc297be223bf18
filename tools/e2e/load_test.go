package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
)

// load asks all the time, each worker one thing after the other, and counts what
// failed. A request fails when it has no answer of 200, whatever the reason:
// nothing is tried again but what its protocol says was not looked at (GOAWAY,
// REFUSED_STREAM, a connection that was seen to be closed before a byte was sent).
type load struct {
	asked, connects atomic.Int64
	mu              sync.Mutex
	failures        []string
	stop            context.CancelFunc
	work            sync.WaitGroup
}

func (l *load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, time.Now().Format("05.000 ")+err.Error())
}

const (
	// workersEach is how many ask at once by each protocol.
	workersEach = 4
	// pace is between a worker's requests. There is always one on its way somewhere; more
	// of them would only take the machine from the processes that are looked at.
	pace = 5 * time.Millisecond
)

// run starts workers that call ask until the load ends.
func (l *load) run(ctx context.Context, ask func(context.Context) error) {
	for range workersEach {
		l.work.Go(func() {
			for ctx.Err() == nil {
				within, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
				err := ask(within)
				cancel()
				l.asked.Add(1)
				if err != nil {
					l.failed(err)
				}
				time.Sleep(pace)
			}
		})
	}
}

// end stops the load and fails the test for each failure.
func (l *load) end(t *testing.T, atLeast int64) {
	t.Helper()
	l.stop()
	l.work.Wait()
	t.Logf("%d requests on %d connections, %d failed", l.asked.Load(), l.connects.Load(), len(l.failures))
	if n := len(l.failures); n > 0 {
		t.Errorf("%d requests failed, such as\n%q", n, l.failures[:min(n, 8)])
	}
	if n := l.asked.Load(); n < atLeast {
		t.Errorf("only %d requests were made", n)
	}
}

// startLoad asks by HTTP/1.1 (requests that nobody may repeat), by HTTP/2, in
// plaintext or over TLS, and by gRPC. Addresses are asked for before each new
// connection, as a load balancer chooses a machine.
func startLoad(t *testing.T, httpAddr, grpcAddr func() string, roots *tls.Config) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel}
	t.Cleanup(func() { cancel(); l.work.Wait() })
	dialTo := func(addr func() string) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, _, _ string) (net.Conn, error) {
			l.connects.Add(1)
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr())
		}
	}
	scheme := "http"
	if roots != nil {
		scheme = "https"
	}
	transport := func(version2 bool) *http.Client {
		p := new(http.Protocols)
		p.SetHTTP1(!version2)
		p.SetHTTP2(version2 && roots != nil)
		p.SetUnencryptedHTTP2(version2 && roots == nil)
		tr := &http.Transport{Protocols: p, DialContext: dialTo(httpAddr), MaxIdleConnsPerHost: workersEach}
		if roots != nil {
			tr.TLSClientConfig = roots.Clone() // Each adds its own protocols.
		}
		if !version2 { // A connection for each worker: none lies in stock until it is closed for that.
			tr.MaxConnsPerHost = workersEach
		}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	// A GET would be sent again after its connection has ended: Go's client would
	// hide what this test is about. A POST is answered 405 here, and never repeated.
	h1, h2 := transport(false), transport(true)
	l.run(ctx, func(ctx context.Context) error {
		return askOnce(ctx, h1, http.MethodPost, scheme, http.StatusMethodNotAllowed, bytes.NewReader([]byte("{}")))
	})
	l.run(ctx, func(ctx context.Context) error { return askOnce(ctx, h2, http.MethodGet, scheme, http.StatusOK, nil) })
	if grpcAddr == nil {
		return l
	}
	dial := dialTo(grpcAddr)
	cc, err := grpc.NewClient("passthrough:///gateway", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx, "", "") }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	profiles := profilev1.NewProfileServiceClient(cc)
	l.run(ctx, func(ctx context.Context) error {
		if _, err := profiles.GetProfile(ctx, &profilev1.GetProfileRequest{UserId: "ada"}); err != nil {
			return fmt.Errorf("gRPC: %w", err)
		}
		return nil
	})
	return l
}

func askOnce(ctx context.Context, c *http.Client, method, scheme string, want int, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, method, scheme+"://127.0.0.1/v1/users/ada/profile", body)
	if err != nil {
		return err
	}
	res, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("%s by %s: %w", method, res.Proto, err)
	}
	if res.StatusCode != want {
		return fmt.Errorf("%s by %s: %s %s", method, res.Proto, res.Status, b)
	}
	return nil
}
