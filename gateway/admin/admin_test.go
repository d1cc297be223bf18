package admin_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/admin"
)

var list = []admin.Route{
	{Verb: "GET", Template: "/v1/users/{user_id}", Method: "shop.user.v1.UserService/GetUser", Require: "users.read", Owner: "user_id",
		Tenant: "org_id", Conditions: []admin.Condition{{ID: "small", Expression: "request.n < 3"}, {ID: "short", Expression: "size(request.s)\n  < 9"}},
		LimitClass: "read", LimitCost: 2, Limit: "5 in 1s per principal", Deadline: "2s", Target: "in-process"},
	{Method: "shop.user.v1.UserService/Hidden", Require: "<public>", Target: "dns:///users:9090"},
}

func options(ready error) admin.Options {
	return admin.Options{
		Ready:   func() error { return ready },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "sluice_up 1\n") }),
		Routes:  func() []admin.Route { return list },
	}
}

func do(t *testing.T, h http.Handler, verb, target string) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(verb, target, nil))
	res := w.Result()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestPages(t *testing.T) {
	h := admin.New(options(nil))
	for target, tc := range map[string]struct {
		status int
		kind   string
		body   string // Part of it.
	}{
		"/":                             {200, "text/plain; charset=utf-8", "/readyz"},
		"/healthz":                      {200, "text/plain; charset=utf-8", "ok\n"},
		"/readyz":                       {200, "text/plain; charset=utf-8", "ready\n"},
		"/metrics":                      {200, "", "sluice_up 1\n"},
		"/routes":                       {200, "application/json", `"template": "/v1/users/{user_id}"`},
		"/routes?format=json":           {200, "application/json", `"require": "<public>"`},
		"/routes?format=text":           {200, "text/plain; charset=utf-8", "VERB"},
		"/routes?format=xml":            {400, "text/plain; charset=utf-8", "json or text"},
		"/routes?format=text;x":         {400, "text/plain; charset=utf-8", "the query is not valid"},
		"/routes?format=%zz":            {400, "text/plain; charset=utf-8", "the query is not valid"},
		"/routes?format=json&format=x":  {400, "text/plain; charset=utf-8", "format is given more than once"},
		"/debug/pprof/":                 {200, "text/html; charset=utf-8", "goroutine"},
		"/debug/pprof/goroutine":        {200, "", ""},
		"/debug/pprof/heap":             {200, "", ""},
		"/debug/pprof/cmdline":          {200, "", "admin"},
		"/debug/pprof/symbol":           {200, "", "num_symbols"},
		"/debug/pprof/trace?seconds=.1": {200, "", ""},
		"/debug/pprof/nope":             {404, "", "Unknown profile"},
		"/nope":                         {404, "", "not found"},
		"/healthz/":                     {404, "", "not found"},
	} {
		t.Run(target, func(t *testing.T) {
			res, body := do(t, h, "GET", target)
			if res.StatusCode != tc.status || !strings.Contains(body, tc.body) || (tc.kind != "" && res.Header.Get("Content-Type") != tc.kind) {
				t.Errorf("%d %s %q", res.StatusCode, res.Header.Get("Content-Type"), body)
			}
			if res.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Error("no nosniff")
			}
		})
	}
}

func TestProfileOfTheCPU(t *testing.T) {
	res, body := do(t, admin.New(admin.Options{}), "GET", "/debug/pprof/profile?seconds=1")
	if res.StatusCode != 200 || len(body) == 0 {
		t.Errorf("%d, %d bytes", res.StatusCode, len(body))
	}
}

func TestOnlyReading(t *testing.T) {
	h := admin.New(options(nil))
	for _, target := range []string{"/", "/healthz", "/readyz", "/metrics", "/routes", "/debug/pprof/", "/debug/pprof/symbol", "/nope"} {
		for _, verb := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"} {
			res, _ := do(t, h, verb, target)
			if res.StatusCode != 405 || res.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d, Allow %q", verb, target, res.StatusCode, res.Header.Get("Allow"))
			}
		}
		if res, _ := do(t, h, "HEAD", target); res.StatusCode == 405 {
			t.Errorf("HEAD %s: 405", target)
		}
	}
}

func TestReadiness(t *testing.T) {
	var reason error
	o := options(nil)
	o.Ready = func() error { return reason }
	h := admin.New(o)
	for _, tc := range []struct {
		reason error
		status int
		body   string
	}{
		{errors.New("starting"), 503, "not ready\nstarting\n"},
		{nil, 200, "ready\n"},
		{errors.Join(errors.New("user store is down"), errors.New("stopping")), 503, "not ready\nuser store is down\nstopping\n"},
	} {
		reason = tc.reason
		if res, body := do(t, h, "GET", "/readyz"); res.StatusCode != tc.status || body != tc.body {
			t.Errorf("%v: %d %q", tc.reason, res.StatusCode, body)
		}
		if res, _ := do(t, h, "GET", "/healthz"); res.StatusCode != 200 {
			t.Errorf("%v: not alive", tc.reason)
		}
	}
}

func TestWithoutOptions(t *testing.T) {
	h := admin.New(admin.Options{})
	for target, status := range map[string]int{"/readyz": 200, "/metrics": 404, "/routes": 404} {
		if res, _ := do(t, h, "GET", target); res.StatusCode != status {
			t.Errorf("%s: %d", target, res.StatusCode)
		}
	}
	if _, body := do(t, h, "GET", "/"); strings.Contains(body, "/metrics") || strings.Contains(body, "/routes") {
		t.Errorf("lists what is not there: %s", body)
	}
}

func TestRoutes(t *testing.T) {
	h := admin.New(options(nil))
	_, body := do(t, h, "GET", "/routes")
	var got struct{ Routes []admin.Route }
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Routes, list) {
		t.Errorf("%+v", got.Routes)
	}
	_, body = do(t, h, "GET", "/routes?format=text")
	var rows [][]string
	for _, line := range strings.Split(strings.TrimSpace(body), "\n") {
		rows = append(rows, strings.Fields(line))
	}
	want := [][]string{
		{"VERB", "TEMPLATE", "METHOD", "REQUIRE", "OWNER", "TENANT", "CONDITIONS", "LIMIT", "DEADLINE", "TARGET"},
		{"GET", "/v1/users/{user_id}", "shop.user.v1.UserService/GetUser", "users.read", "user_id", "org_id", "small", "short", "read*2", "2s", "in-process"},
		{"-", "-", "shop.user.v1.UserService/Hidden", "<public>", "-", "-", "-", "-", "-", "dns:///users:9090"},
		{},
		{"LIMIT", "ALLOWS"},
		{"read", "5", "in", "1s", "per", "principal"},
		{},
		{"METHOD", "CONDITION", "EXPRESSION"},
		{"shop.user.v1.UserService/GetUser", "small", "request.n", "<", "3"},
		{"shop.user.v1.UserService/GetUser", "short", "size(request.s)", "<", "9"},
	}
	if !slices.EqualFunc(rows, want, slices.Equal[[]string]) {
		t.Errorf("%q", rows)
	}
	empty := options(nil)
	empty.Routes = func() []admin.Route { return nil }
	if _, body := do(t, admin.New(empty), "GET", "/routes"); !strings.Contains(body, `"routes": []`) {
		t.Errorf("no routes: %s", body)
	}
}
