package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/proxy"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// stated is a tracer whose spans have a trace state, as of a caller who sent one.
type stated struct{ noop.Tracer }

// everyLine is the request as the service has it.
func everyLine(w http.ResponseWriter, r *http.Request) {
	var lines []string
	for name, values := range r.Header {
		lines = append(lines, fmt.Sprint(name, ": ", values))
	}
	slices.Sort(lines)
	_, _ = fmt.Fprintf(w, "%s %s\n%s", r.Method, r.URL, strings.Join(lines, "\n"))
}

// TestNobodyIsNamedForOthers: what a service is asked for on behalf of others says
// nothing of who asked first, wherever a name, an address or a text of hers could stand;
// and what only she gets says it all.
func TestNobodyIsNamedForOthers(t *testing.T) {
	hers := http.Header{"X-Request-Id": {"ada-1"}, "User-Agent": {"ada's"}, "Baggage": {"user=ada"}, "X-Ada": {"ada"}, "If-Range": {`"ada"`},
		"If-None-Match": {`"ada"`}, "If-Modified-Since": {"Mon, 02 Mar 2026 12:00:00 GMT"}, "Cache-Control": {"no-cache, ext=ada"}, "Pragma": {"ada"},
		"Accept": {"text/ada"}, "Tracestate": {"ada=1"}}
	for name, tc := range map[string]struct {
		rule    *policyv1.Cache
		subject string
		method  string
		h       http.Header
		named   bool // the service may know
	}{
		"for everybody":                       {shared(), "ada", "GET", hers, false},
		"for everybody, HEAD":                 {shared(), "ada", "HEAD", hers, false},
		"for one, who is nobody":              {private(), "", "GET", hers, false},
		"for one":                             {private(), "ada", "GET", hers, true},
		"for everybody, but not from a cache": {shared(), "ada", "GET", http.Header{"Range": {"bytes=0-1"}}, true},
		"for everybody, but a write":          {shared(), "ada", "POST", hers, true},
	} {
		t.Run(name, func(t *testing.T) {
			var got atomic.Value
			k := keep(t, tc.rule, func(w http.ResponseWriter, r *http.Request) {
				got.Store(r.Header.Clone())
				everyLine(w, r)
			}, nil, func(u *proxy.Upstream) { u.UserID = true })
			k.client = netip.MustParseAddr("192.0.2.77")
			k.tracer = stated{}
			if k.principal = policy.NewPrincipal(tc.subject, "i", nil, time.Time{}); tc.subject == "" {
				k.principal = policy.Anonymous
			}
			tc.h = tc.h.Clone()
			tc.h.Del("Accept") // Of what the service chooses by, Vary must speak: see TestWhatIsKept.
			k.ask(t, tc.method, "/u/ada/x", tc.h)
			sent, ok := got.Load().(http.Header)
			if !ok {
				t.Fatal("the service was not asked")
			}
			for header, values := range sent {
				line := header + ": " + strings.Join(values, ",")
				if !tc.named && (strings.Contains(line, "ada") || strings.Contains(line, "192.0.2.77") || strings.Contains(line, "127.0.0.1") && header != "X-Forwarded-Host" && header != "Forwarded") {
					t.Errorf("the service is told %s", line)
				}
			}
			if f := sent.Get("Forwarded"); !tc.named && strings.Contains(f, "for=") {
				t.Errorf("Forwarded: %s", f)
			}
			if tc.named && (sent.Get("X-User-Id") != "ada" || sent.Get("X-Sluice-Assertion") != "for up of ada" || sent.Get("X-Forwarded-For") == "") {
				t.Errorf("the service is not told: %v", sent)
			}
			if sent.Get("X-Sluice-Assertion") == "" || sent.Get("X-Request-Id") == "" || sent.Get("X-Forwarded-Proto") != "http" {
				t.Errorf("the service is told too little: %v", sent)
			}
		})
	}
}

// Start implements trace.Tracer.
func (stated) Start(ctx context.Context, _ string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	state, _ := trace.ParseTraceState("ada=1")
	ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceState: state}))
	return ctx, trace.SpanFromContext(ctx)
}

// TestFirstCallersAnswer: of a service that answers by who asks, nobody is given what was
// made for another, whoever comes first.
func TestFirstCallersAnswer(t *testing.T) {
	for name, says := range map[string]func(w http.ResponseWriter, who string){
		"and does not say so": func(http.ResponseWriter, string) {},
		"and says private":    func(w http.ResponseWriter, _ string) { w.Header().Set("Cache-Control", "private") },
		"and sets a session":  func(w http.ResponseWriter, who string) { w.Header().Set("Set-Cookie", "s="+who) },
		"and asks for a name": func(w http.ResponseWriter, who string) {
			if who == "" {
				w.WriteHeader(http.StatusUnauthorized)
			}
		},
		"and forbids nobody": func(w http.ResponseWriter, who string) {
			if who == "" {
				w.WriteHeader(http.StatusForbidden)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := keep(t, shared(), func(w http.ResponseWriter, r *http.Request) {
				who := r.Header.Get("X-User-Id")
				says(w, who)
				_, _ = io.WriteString(w, "hello "+who)
			}, nil, func(u *proxy.Upstream) { u.UserID = true })
			for _, who := range []string{"ada", "grace", "ada", "linus"} {
				k.principal = policy.NewPrincipal(who, "i", nil, time.Time{})
				want := "hello " + who
				if name == "and does not say so" { // Then it is the same for all.
					want = "hello "
				}
				if res, body, _ := k.ask(t, "GET", "/u/ada/x", nil); body != want || res.StatusCode != 200 {
					t.Errorf("%s gets %d %q", who, res.StatusCode, body)
				}
			}
		})
	}
}

// TestTemplatesOfCallerAreKeyed: what the operator tells the service of a caller is in
// the key, so that may be told; a request id is not, and is a new one.
func TestTemplatesOfCallerAreKeyed(t *testing.T) {
	k := keep(t, shared(), func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Header["X-Who"], r.Header["X-Call"])
	}, func(r *proxy.Route) {
		r.RequestHeaders = headers.Rules{Set: map[string]string{"X-Who": "{principal.subject} {client.address}", "X-Call": "{request_id}"}}
	})
	k.client = netip.MustParseAddr("192.0.2.77")
	for _, who := range []string{"ada", "grace", "ada"} {
		k.principal = policy.NewPrincipal(who, "i", nil, time.Time{})
		_, body, _ := k.ask(t, "GET", "/u/ada/x", http.Header{"X-Request-Id": {"evil"}})
		if !strings.HasPrefix(body, "["+who+" 192.0.2.77] [") || strings.Contains(body, "evil") || strings.Contains(body, "r-1") {
			t.Errorf("%s gets %s", who, body)
		}
	}
	if k.calls.Load() != 2 {
		t.Errorf("%d calls", k.calls.Load())
	}
}

// TestFaultIsNotForThoseWhoWait: who asks for a failure on purpose has it alone.
func TestFaultIsNotForThoseWhoWait(t *testing.T) {
	k := keep(t, shared(), func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") }, func(r *proxy.Route) {
		r.Rule.Deadline = 500 * time.Millisecond
	}, func(u *proxy.Upstream) {
		u.Faults = []proxy.Fault{{Abort: codes.PermissionDenied, Percent: 100, Header: "X-Fault", Value: "abort"}, {Delay: time.Hour, Percent: 100, Header: "X-Fault", Value: "delay"}}
	})
	late := make(chan int, 1)
	go func() {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, k.url+"/u/ada/x", nil)
		r.Header["X-Fault"], r.Header["Accept-Encoding"] = []string{"delay"}, []string{"identity"}
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			late <- 0
			return
		}
		_ = res.Body.Close()
		late <- res.StatusCode
	}()
	for k.call.Load() == nil {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // For it to be delayed; whoever is early finds the same.
	if res, _, _ := k.ask(t, "GET", "/u/ada/x", http.Header{"X-Fault": {"abort"}}); res.StatusCode != http.StatusForbidden {
		t.Errorf("a failure that was asked for: %d", res.StatusCode)
	}
	if res, body, _ := k.ask(t, "GET", "/u/ada/x", nil); res.StatusCode != 200 || body != "fine" {
		t.Errorf("another gets %d %q", res.StatusCode, body)
	}
	if code := <-late; code != http.StatusGatewayTimeout {
		t.Errorf("who asked for a delay: %d", code)
	}
}
