package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// tlsOf adds a certificate of the HTTP edge to a configuration, and returns what
// a client needs for it; nil without.
func tlsOf(t *testing.T, wanted bool, config object) *tls.Config {
	t.Helper()
	if !wanted {
		return nil
	}
	a := newAuthority(t, "drain")
	cert, key := a.issue(t, "gateway")
	config["http"] = object{"tls": object{"cert_file": cert, "key_file": key}}
	pem, err := os.ReadFile(a.file)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// stuckCall is a gateway with a call in flight that no service answers.
func stuckCall(t *testing.T, grace string) *gateway {
	t.Helper()
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		<-s.Context().Done()
		return s.Context().Err()
	}))
	go func() { _ = silent.Serve(hole) }()
	t.Cleanup(silent.Stop)
	const service = "shop.profile.v1.ProfileService"
	g := startGateway(t, setup{config: object{
		"shutdown":  object{"grace": grace},
		"upstreams": object{service: object{"target": hole.Addr().String()}},
		"methods":   object{service + "/GetProfile": object{"deadline": "60s"}},
	}})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = g.send(ctx, "GET", "/v1/users/ada/profile", "", nil)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	inFlight(t, g)
	return g
}

// TestHardStop: a call that does not end is cut off when the grace is over, and
// the process ends.
func TestHardStop(t *testing.T) {
	t.Parallel()
	g := stuckCall(t, "2s")
	g.signal(t, syscall.SIGTERM)
	began := time.Now()
	if code := g.exitCode(t, patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("the call had %v of its grace", took)
	}
}

// TestSecondSignal: whoever will not wait says so again.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	g := stuckCall(t, "10m")
	g.signal(t, syscall.SIGTERM)
	eventually(t, patience, func() error { return notAccepting(g.url) })
	g.signal(t, syscall.SIGTERM)
	if code := g.exitCode(t, patience); code != -1 { // By the signal.
		t.Errorf("exit code %d", code)
	}
}

func inFlight(t *testing.T, g *gateway) {
	t.Helper()
	eventually(t, patience, func() error {
		if m := g.atAdmin(t, "/metrics"); !strings.Contains(string(m.body), `sluice_requests_in_flight{edge="rest"} 1`) {
			return errors.New("the call is not in flight")
		}
		return nil
	})
}

func notAccepting(url string) error {
	c, err := net.DialTimeout("tcp", strings.TrimPrefix(url, "http://"), time.Second)
	if err == nil {
		_ = c.Close()
		return errors.New("it takes new connections")
	}
	return nil
}
