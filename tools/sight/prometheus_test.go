package sight

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// prometheus is a real one that scrapes for the length of a test.
type prometheus struct{ url string }

// startPrometheus scrapes the admin listeners every second, for a busy machine may take as
// long over a scrape, and evaluates the alert rules four times a second.
func startPrometheus(t *testing.T, admins ...string) *prometheus {
	t.Helper()
	bin, dir := program(t, "prometheus"), t.TempDir()
	alerts, err := filepath.Abs(filepath.FromSlash(rulesFile))
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range admins {
		admins[i] = strconv.Quote(strings.TrimPrefix(a, "http://"))
	}
	config := fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 250ms}\nrule_files: [%q]\n"+
		"scrape_configs: [{job_name: sluice, static_configs: [{targets: [%s]}]}]\n", alerts, strings.Join(admins, ", "))
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), //nolint:noctx // Stopped below.
		"--web.listen-address="+addr, "--enable-feature=exemplar-storage", "--log.level=warn")
	var out bytes.Buffer // Read when the process has ended.
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // It ends by a signal.
		if t.Failed() {
			t.Log(out.String())
		}
	})
	p := &prometheus{url: "http://" + addr}
	p.until(t, "Prometheus is ready", func() bool {
		res, err := http.Get(p.url + "/-/ready") //nolint:noctx // Loopback; until bounds it.
		return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
	})
	p.scrapes(t, len(admins))
	return p
}

// scrapes waits until so many gateways have been scraped, and fails when one cannot be.
func (p *prometheus) scrapes(t *testing.T, gateways int) {
	t.Helper()
	p.until(t, "all gateways are scraped", func() bool {
		var data struct {
			ActiveTargets []struct{ Health, LastError, ScrapeURL string }
		}
		if err := p.get(t, "targets", nil, &data); err != nil {
			t.Fatal(err)
		}
		up := 0
		for _, x := range data.ActiveTargets {
			if x.LastError != "" {
				t.Logf("%s: %s", x.ScrapeURL, x.LastError)
			}
			if x.Health == "up" {
				up++
			}
		}
		return up == gateways
	})
}

func (*prometheus) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30s: %s", what)
		}
	}
}

// get asks the API, and returns its data.
func (p *prometheus) get(t *testing.T, path string, query url.Values, data any) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/api/v1/"+path+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}

// query returns how many series an expression has now.
func (p *prometheus) query(t *testing.T, expr string) (series int, err error) {
	t.Helper()
	var data struct {
		ResultType string
		Result     []json.RawMessage
	}
	err = p.get(t, "query", url.Values{"query": {expr}}, &data)
	return len(data.Result), err
}
