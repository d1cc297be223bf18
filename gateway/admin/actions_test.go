package admin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/admin"
)

// operator notes what the actions were asked for.
type operator struct {
	mu   sync.Mutex
	done []string
}

func (o *operator) note(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done = append(o.done, fmt.Sprintf(format, args...))
}

func (o *operator) all() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.done, "; ")
}

func (o *operator) actions() admin.Actions {
	return admin.Actions{
		SetLogLevel: func(level string) error {
			if level == "loud" {
				return errors.New("no level loud")
			}
			o.note("level %s", level)
			return nil
		},
		ForceBreaker: func(service, variant, class, state string) error {
			o.note("breaker %s/%s/%s %s", service, variant, class, state)
			return nil
		},
		PurgeCache: func(method, tag string) (int, error) { o.note("purge %q %q", method, tag); return 3, nil },
		Reload:     func() error { o.note("reload"); return nil },
	}
}

func shown() admin.State {
	at := time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)
	return admin.State{
		Version: "v0", Started: at, Now: at.Add(90 * time.Second), LogLevel: "info",
		Config: admin.ConfigState{Source: "sluice.yaml", Digest: "abc123", Loaded: at, Reloads: 2, LastError: "line 3: unknown key <b>bold</b>", LastErrorAt: at, NeedsRestart: []string{"http.addr"}},
		Services: []admin.ServiceState{{Name: "shop.user.v1.UserService", Target: "etcd:///users", InFlight: 4, Limit: 100,
			Breakers: []admin.BreakerState{{Class: "read", State: "open", Since: at, Requests: 40, Failures: 30}},
			Backends: []admin.BackendState{{Addr: "10.0.0.1:9090", Weight: 1, State: "ejected", Ejections: 2, LastError: "connection refused"}}}},
		Cache:  &admin.CacheState{Entries: 7, Bytes: 1 << 20, MaxBytes: 64 << 20},
		Errors: []admin.RecentError{{Time: at, RequestID: "id-7", Route: "/v1/users/{user_id}", Code: "503", Upstream: "etcd:///users", Why: "breaker"}},
	}
}

func TestActions(t *testing.T) {
	for _, tc := range []struct {
		method, path, body string
		status             int
		answer, done       string
	}{
		{"PUT", "/log/level", `{"level":"debug"}`, 200, `"level": "debug"`, "level debug"},
		{"PUT", "/log/level", `{"level":"loud"}`, 400, "no level loud", ""},
		{"PUT", "/log/level", `{"levels":"debug"}`, 400, "unknown field", ""},
		{"PUT", "/log/level", `{} {}`, 400, "nothing after it", ""},
		{"PUT", "/log/level", ``, 400, "must be a JSON object", ""},
		{"PUT", "/log/level", `{"level":"` + strings.Repeat("x", 5000) + `"}`, 413, "at most 4096 bytes", ""},
		{"GET", "/log/level", ``, 405, "/log/level takes PUT", ""},
		{"PUT", "/breakers", `{"service":"a.B","class":"read","state":"open"}`, 200, `"State": "open"`, "breaker a.B//read open"},
		{"POST", "/cache/purge", `{}`, 200, `"purged": 3`, `purge "" ""`},
		{"POST", "/cache/purge", `{"tag":"user/ada"}`, 200, `"purged": 3`, `purge "" "user/ada"`},
		{"POST", "/config/reload", `{}`, 200, "reloaded", "reload"},
		{"POST", "/routes", `{}`, 405, "method not allowed", ""},
		{"POST", "/nope", `{}`, 405, "method not allowed", ""},
	} {
		t.Run(tc.method+" "+tc.path, func(t *testing.T) {
			o := &operator{}
			h := admin.New(admin.Options{Addr: "127.0.0.1:0", Actions: o.actions(), Routes: func() []admin.Route { return nil }})
			r := httptest.NewRequest(tc.method, "http://127.0.0.1"+tc.path, strings.NewReader(tc.body))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.answer) {
				t.Errorf("%d %s, want %d with %q", w.Code, w.Body, tc.status, tc.answer)
			}
			if got := o.all(); got != tc.done {
				t.Errorf("done %q, want %q", got, tc.done)
			}
		})
	}
}

// Pages of other sites, which an operator's browser shows, change nothing.
func TestActionsOfOtherPages(t *testing.T) {
	for name, change := range map[string]func(*http.Request){
		"a form":                    func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") },
		"text that looks like JSON": func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") },
		"no type":                   func(r *http.Request) { r.Header.Del("Content-Type") },
		"another site":              func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"a neighbour":               func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		"a name that resolves here": func(r *http.Request) { r.Header.Set("Origin", "http://evil.example:9901") },
		"no origin at all":          func(r *http.Request) { r.Header.Set("Origin", "null") },
		"another name":              func(r *http.Request) { r.Host = "evil.example" },
		"a preflight":               func(r *http.Request) { r.Method = http.MethodOptions },
	} {
		t.Run(name, func(t *testing.T) {
			o := &operator{}
			h := admin.New(admin.Options{Addr: "127.0.0.1:0", Actions: o.actions(), State: shown})
			r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/config/reload", strings.NewReader("{}"))
			r.Header.Set("Content-Type", "application/json")
			change(r)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code < 400 || o.all() != "" || w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%d %s, done %q", w.Code, w.Body, o.all())
			}
		})
	}
}

func TestState(t *testing.T) {
	server := httptest.NewServer(admin.New(admin.Options{Addr: "127.0.0.1:0", State: shown}))
	defer server.Close()
	res, err := http.Get(server.URL + "/state") //nolint:noctx // A test.
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got admin.State
	if err := json.Unmarshal(raw, &got); err != nil || got.Services[0].Backends[0].State != "ejected" || got.Errors[0].RequestID != "id-7" {
		t.Errorf("%v: %s", err, raw)
	}
	if strings.Contains(string(raw), "null") {
		t.Errorf("lists must be lists: %s", raw)
	}
}
