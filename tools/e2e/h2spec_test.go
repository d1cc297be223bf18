package e2e

import (
	"encoding/xml"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestH2Spec: h2spec's cases of HTTP/2 and HPACK against the TLS listener of the
// process. What a plain net/http server passes in the same run, the gateway
// passes: the cases that net/http itself fails are not ours to mend.
func TestH2Spec(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ours")
	cert, key := ca.issue(t, "gateway.internal")
	g := startGateway(t, setup{config: object{
		"http":   object{"tls": object{"cert_file": cert, "key_file": key}},
		"limits": object{"address": object{"off": true}}, // Hundreds of connections of one address.
	}})
	addr := strings.TrimPrefix(g.url, "https://")
	plain := h2spec(t, plainServer(t, cert, key))
	ours := h2spec(t, addr)
	passed, total := 0, 0
	for name, ok := range plain {
		total++
		// In a few cases the server's answer and the tool's next frame cross, for
		// net/http as for us: those are asked again.
		for again := 0; ok && !ours[name] && again < 5; again++ {
			section, _, _ := strings.Cut(name, ":")
			ours[name] = h2spec(t, addr, section)[name]
		}
		if ours[name] {
			passed++
		}
		if ok && !ours[name] {
			t.Errorf("net/http passes it, the gateway does not: %s", name)
		}
	}
	if total < 140 {
		t.Errorf("only %d cases ran", total)
	}
	t.Logf("h2spec: the gateway passes %d of %d, plain net/http %d", passed, total, count(plain))
}

func count(results map[string]bool) (n int) {
	for _, ok := range results {
		if ok {
			n++
		}
	}
	return n
}

// plainServer is what is compared with: net/http with TLS, and a handler that
// reads the body, as the gateway does.
func plainServer(t *testing.T, cert, key string) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"code":"NOT_FOUND"}`, http.StatusNotFound)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.ServeTLS(l, cert, key)
	}()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return l.Addr().String()
}

// h2spec runs the tool, or sections of it, and returns which cases passed.
func h2spec(t *testing.T, addr string, sections ...string) map[string]bool {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "report.xml")
	args := append([]string{"--host", host, "--port", port, "--tls", "--insecure", "--timeout", "3", "--junit-report", report}, sections...)
	out, err := exec.CommandContext(t.Context(), filepath.Join(programs, "h2spec"), args...).CombinedOutput()
	raw, readErr := os.ReadFile(report)
	if readErr != nil { // It ends with 1 when a case fails.
		t.Fatalf("h2spec wrote no report: %v: %s", err, out)
	}
	var suites struct {
		Suites []struct {
			Name  string `xml:"name,attr"`
			Cases []struct {
				Package   string    `xml:"package,attr"`
				ClassName string    `xml:"classname,attr"`
				Failure   *struct{} `xml:"failure"`
				Error     *struct{} `xml:"error"`
				Skipped   *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(raw, &suites); err != nil {
		t.Fatal(err)
	}
	results := map[string]bool{}
	for _, s := range suites.Suites {
		for _, c := range s.Cases {
			results[c.Package+": "+c.ClassName] = c.Failure == nil && c.Error == nil && c.Skipped == nil
		}
	}
	return results
}
