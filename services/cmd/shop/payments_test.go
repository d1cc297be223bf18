package main

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/payments"
)

// TestPaymentsProcess: the service in plain HTTP as a process, with what a gateway
// relies on: health, who calls, and a drain that finishes what runs.
func TestPaymentsProcess(t *testing.T) {
	g := newGateway(t)
	c := start(t, nil, "--service", "payments", "--addr", "127.0.0.1:0", "--db", "sqlite:"+filepath.Join(t.TempDir(), "p.db"), "--assertion-keys", g.file, "--seed")
	defer http.DefaultClient.CloseIdleConnections()
	ask := func(path, subject string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if subject != "" {
			r.Header.Set(kit.AssertionKey, g.Token(t, kit.Caller{Subject: subject}, payments.Name))
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		return res
	}
	res := ask("/v1/payments/ada", "ada")
	if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 200 || !strings.Contains(string(b), "ada-0001") {
		t.Errorf("%d %s %v", res.StatusCode, b, err)
	}
	if res := ask("/v1/payments/ada", ""); res.StatusCode != 401 {
		t.Errorf("nobody: %d", res.StatusCode)
	}
	if res := ask(payments.HealthPath, ""); res.StatusCode != 200 {
		t.Errorf("health: %d", res.StatusCode)
	}
	events := ask("/v1/payments/ada/events", "ada")
	if _, err := io.ReadFull(events.Body, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	c.signal(syscall.SIGTERM)
	if _, err := io.ReadAll(events.Body); err != nil { // The stream is ended, not broken.
		t.Errorf("a stream at the drain: %v", err)
	}
	if res := ask(payments.HealthPath, ""); res.StatusCode != 503 || !res.Close {
		t.Errorf("it drains: %d, close %v", res.StatusCode, res.Close)
	}
	if err := c.wait(); err != nil {
		t.Errorf("exit: %v\n%s", err, c.stderr)
	}
}
