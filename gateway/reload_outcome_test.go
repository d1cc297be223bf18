package gateway_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway"
	listed "github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/config"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
)

// TestReloadIsTold: what came of a reload stands in the status, in metrics and in
// the log; what needs a restart is named and stays; secrets are nowhere.
func TestReloadIsTold(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)))
	first := g.Status()
	if first.Digest == "" || first.LastReload != nil || first.LoadedAt.IsZero() {
		t.Errorf("before any reload: %+v", first)
	}
	bad := proto.CloneOf(g.Config)
	bad.Upstreams = map[string]*configv1.Upstream{"no.such.Service": {Target: "postgres://u:hunter2@h/x"}}
	if err := g.Apply(t.Context(), bad); err == nil {
		t.Fatal("applied an upstream of nothing")
	}
	st := g.Status()
	if st.Digest != first.Digest || st.LastReload.Outcome != "failed" || !strings.Contains(st.LastReload.Error, "no.such.Service") {
		t.Errorf("after one that failed: %+v, %+v", st, st.LastReload)
	}
	if metric(t, g, "sluice_config_last_reload_success") != 0 {
		t.Error("the metric says success")
	}

	next := proto.CloneOf(g.Config)
	next.Http.Addr, next.DataDir = "127.0.0.1:1", "/elsewhere"
	next.Databases["user"].Dsn = "postgres://u:hunter2@h/x"
	next.Limits.Classes["read"].Rates[0].Burst = 77
	if err := g.Apply(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	st = g.Status()
	if want := []string{"data_dir", "databases", "http.addr"}; !slices.Equal(st.NeedsRestart, want) {
		t.Errorf("needs a restart: %q", st.NeedsRestart)
	}
	if st.Digest == first.Digest || st.LastReload.Outcome != "applied" || st.LastReload.Error != "" {
		t.Errorf("after one that was applied: %+v, %+v", st, st.LastReload)
	}
	if metric(t, g, "sluice_config_last_reload_success") != 1 || metric(t, g, `sluice_config_info{digest="`+st.Digest+`"}`) != 1 {
		t.Error("the metrics are of another configuration")
	}
	if res, _ := do(t, g, g.Token(t, "ada", ""), exchange{method: "GET", path: "/test/v1/echo/x"}); !strings.Contains(res.Header.Get("RateLimit-Policy"), "q=77") {
		t.Errorf("what needs no restart was not applied: %q", res.Header.Get("RateLimit-Policy"))
	}
	if err := g.Apply(t.Context(), next); err != nil || g.Status().LastReload.Outcome != "unchanged" {
		t.Errorf("the same again: %v, %+v", err, g.Status().LastReload)
	}

	shown := page(t, g.AdminURL+"/config")
	if !strings.Contains(shown, st.Digest) || !strings.Contains(shown, "http.addr") || !strings.Contains(shown, "postgres://***@h/x") {
		t.Errorf("/config: %s", shown)
	}
	for _, text := range []string{shown, strings.Join(g.Log.Lines(), "\n"), metrics(t, g)} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("a secret was told: %s", text)
		}
	}
}

// TestReloadsAtOnce wait for each other, and one of them is the last.
func TestReloadsAtOnce(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)))
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			if err := g.Apply(t.Context(), revision(g.Config, n+1)); err != nil {
				t.Errorf("%d: %v", n, err)
			}
		})
	}
	all.Wait()
	if n := metric(t, g, `sluice_config_reloads_total{outcome="applied"}`); n != 8 {
		t.Errorf("%v were applied", n)
	}
	eventually(t, "one is left", func() bool { return metric(t, g, "sluice_config_snapshots") == 1 })
}

// TestReloadOfWhatGoesAway: a gateway that drains keeps what it has.
func TestReloadOfWhatGoesAway(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)))
	next := revision(g.Config, 1)
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := g.Apply(t.Context(), next); !errors.Is(err, gateway.ErrDraining) {
		t.Errorf("a reload after the drain: %v", err)
	}
}

// TestReloadFollowsItsFile: a gateway that runs takes over what is written, and
// only what it can use.
func TestReloadFollowsItsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	write := func(text string) {
		t.Helper()
		next := file + ".next"
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
	}
	deadline := func(value string) string {
		return "methods:\n  sluice.test.v1.TestService/Echo:\n    deadline: " + value + "\n"
	}
	write(deadline("3s"))
	env := map[string]string{"SLUICE_HTTP_ADDR": "127.0.0.1:0", "SLUICE_GRPC_ADDR": "127.0.0.1:0", "SLUICE_ADMIN_ADDR": "127.0.0.1:0", "SLUICE_DATA_DIR": t.TempDir()}
	source, err := config.Open(file, func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := source.Load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	g := gatewaytest.Run(t, cfg, gateway.WithServices(gatewaytest.TestService(nil)), gateway.WithSource(source))
	is := func(want string) func() bool {
		return func() bool {
			return slices.ContainsFunc(g.Routes(), func(r listed.Route) bool { return strings.HasSuffix(r.Method, "/Echo") && r.Deadline == want })
		}
	}
	if !is("3s")() {
		t.Fatal(g.Routes())
	}
	write(deadline("4s"))
	eventually(t, "the file was followed", is("4s"))
	write(deadline("many"))
	eventually(t, "the bad file was told of", func() bool { r := g.Status().LastReload; return r != nil && r.Outcome == "invalid" })
	if !is("4s")() || !strings.Contains(g.Status().LastReload.Error, ":3:15") {
		t.Errorf("%v, %+v", g.Routes(), g.Status().LastReload)
	}
	write(deadline("5s"))
	eventually(t, "the next good file was followed", is("5s"))
	if err := g.Reload(t.Context()); err != nil || g.Status().LastReload.Outcome != "unchanged" {
		t.Errorf("a reload without a change: %v, %+v", err, g.Status().LastReload)
	}
	if res, _ := do(t, g, g.Token(t, "ada", ""), exchange{method: "GET", path: "/test/v1/echo/x"}); res.StatusCode != http.StatusOK {
		t.Error(res.Status)
	}
}

// TestReloadOfAnIssuer: keys that cannot be fetched from a new place leave the old
// one in use; an issuer that nobody used yet may be away.
func TestReloadOfAnIssuer(t *testing.T) {
	issuer := func(name, url string) *configv1.Issuer {
		return &configv1.Issuer{Issuer: name, Audiences: []string{"x"}, Algorithms: []string{"ES256"}, Keys: &configv1.Issuer_JwksUrl{JwksUrl: url}}
	}
	const nobody = "http://127.0.0.1:1/keys"
	g := gatewaytest.Start(t, func(c *configv1.Config) { c.Auth.Issuers = []*configv1.Issuer{issuer("https://one", nobody)} },
		gateway.WithServices(gatewaytest.TestService(nil)))
	moved := proto.CloneOf(g.Config)
	moved.Auth.Issuers = []*configv1.Issuer{issuer("https://one", nobody+"/elsewhere")}
	if err := g.Apply(t.Context(), moved); err == nil || !strings.Contains(err.Error(), "https://one") {
		t.Errorf("keys that cannot be had: %v", err)
	}
	another := proto.CloneOf(g.Config)
	another.Auth.Issuers = append(another.Auth.Issuers, issuer("https://two", nobody+"/two"))
	if err := g.Apply(t.Context(), another); err != nil {
		t.Errorf("another issuer: %v", err)
	}
	if !strings.Contains(strings.Join(g.Log.Lines(), "\n"), "the keys of a new issuer cannot be fetched") {
		t.Error("nobody is told")
	}
}
