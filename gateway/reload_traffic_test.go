package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
)

// traffic is callers of every kind, all the time.
type traffic struct {
	g      *gatewaytest.Gateway
	token  string
	as     context.Context
	h1, h2 *http.Client
	stop   chan struct{}
	all    sync.WaitGroup

	made atomic.Int64
	mu   sync.Mutex
	errs []error
}

func startTraffic(t *testing.T, g *gatewaytest.Gateway) *traffic {
	t.Helper()
	tr := &traffic{g: g, token: g.Token(t, "ada", "test.write"), as: g.As(t, "ada", "test.write"), stop: make(chan struct{}),
		h1: &http.Client{Transport: &http.Transport{}}, h2: &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}},
	}
	tr.h2.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	for _, call := range []func() error{
		func() error { return tr.rest(tr.h1) }, func() error { return tr.rest(tr.h1) }, func() error { return tr.rest(tr.h2) }, tr.restStream, tr.rpc, tr.rpc, tr.rpcStream,
	} {
		tr.all.Go(func() {
			for {
				select {
				case <-tr.stop:
					return
				default:
				}
				tr.made.Add(1)
				if err := call(); err != nil {
					tr.mu.Lock()
					tr.errs = append(tr.errs, err)
					tr.mu.Unlock()
				}
			}
		})
	}
	return tr
}

// end stops the callers, and says how many of their calls failed.
func (tr *traffic) end(t *testing.T) {
	t.Helper()
	close(tr.stop)
	tr.all.Wait()
	tr.h1.CloseIdleConnections()
	tr.h2.CloseIdleConnections()
	t.Logf("%d calls, %d failed", tr.made.Load(), len(tr.errs))
	for i, err := range tr.errs {
		if i == 10 {
			break
		}
		t.Error(err)
	}
}

func (tr *traffic) get(c *http.Client, path string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(tr.as, http.MethodGet, tr.g.URL+path, http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+tr.token)
	res, err := c.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, res.Status, body)
	}
	return res, body, err
}

func (tr *traffic) rest(c *http.Client) error {
	res, body, err := tr.get(c, "/test/v1/echo/x?delay=0.002s")
	if err != nil {
		return err
	}
	out := &testv1.EchoResponse{}
	if err := protojson.Unmarshal(body, out); err != nil {
		return err
	}
	return oneRevision(res.Header.Get("RateLimit-Policy"), out.GetDeadlineMs())
}

// restStream is a stream that lives through several reloads.
func (tr *traffic) restStream() error {
	_, body, err := tr.get(tr.h1, "/test/v1/down?count=20&gap=0.01s")
	if n := strings.Count(string(body), `"result"`); err == nil && n != 20 {
		return fmt.Errorf("a stream of %d messages: %.200s", n, body)
	}
	return err
}

func (tr *traffic) rpc() error {
	var header metadata.MD
	out, err := testv1.NewTestServiceClient(tr.g.Conn).Echo(tr.as, &testv1.EchoRequest{Id: "x"}, grpc.Header(&header))
	if err != nil {
		return err
	}
	return oneRevision(strings.Join(header.Get("ratelimit-policy"), ","), out.GetDeadlineMs())
}

func (tr *traffic) rpcStream() error {
	all, err := drain(testv1.NewTestServiceClient(tr.g.Conn).Down(tr.as, &testv1.DownRequest{Count: 20, Gap: seconds(0.01)}))
	if err == nil && len(all) != 20 {
		return fmt.Errorf("a stream of %d messages", len(all))
	}
	return err
}

// metric is the value of one series at the admin listener.
func metric(t *testing.T, g *gatewaytest.Gateway, series string) float64 {
	t.Helper()
	for line := range strings.Lines(metrics(t, g)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), series+" "); ok {
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("no %s at /metrics", series)
	return 0
}
