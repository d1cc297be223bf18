package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// bothWays is the line of a request as it is written for an operator, and as a
// program's own logger would write it.
func bothWays(t *testing.T, header http.Header, r Request, code string, suppressed int) (own, given string) {
	t.Helper()
	end := time.Now()
	var a, b lockedBuffer
	o := NewOutput(&a)
	for _, opts := range []Options{{Output: o}, {Access: slog.New(slog.NewJSONHandler(&b, nil))}} {
		opts.Metrics, opts.Tracer = NewMetrics(), untraced()
		tele, observed := New(opts), r
		ctx := tele.BeginIn(context.Background(), &observed, r.Edge, propagation.HeaderCarrier(header))
		tele.logLine(ctx, line{request: &observed, code: code, end: end, took: 1234567 * time.Nanosecond, suppressed: suppressed})
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	return a.String(), b.String()
}

// field is a field of a line, in its place.
type field struct {
	Key   string
	Value any
}

// fieldsOf reads a line, which must be one, in order.
func fieldsOf(t *testing.T, line string) (out []field) {
	t.Helper()
	if !strings.HasSuffix(line, "}\n") || strings.ContainsFunc(line[:len(line)-1], func(r rune) bool { return r < ' ' }) || !utf8.ValidString(line) {
		t.Fatalf("no line: %q", line)
	}
	d := json.NewDecoder(strings.NewReader(line))
	next := func() any {
		v, err := d.Token()
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		return v
	}
	next() // {
	for d.More() {
		key, ok := next().(string)
		if !ok {
			t.Fatalf("no key: %s", line)
		}
		out = append(out, field{key, next()})
	}
	next() // }
	if d.More() {
		t.Fatalf("more than one object: %s", line)
	}
	return out
}

// agree: either way says the same in the same order. Returned are the fields.
func agree(t *testing.T, own, given string) []field {
	t.Helper()
	a, b := fieldsOf(t, own), fieldsOf(t, given)
	if len(a) < 3 || a[0].Key != "time" || b[0].Key != "time" {
		t.Fatalf("where is the time? %s%s", own, given)
	}
	for _, s := range []any{a[0].Value, b[0].Value} {
		if at, err := time.Parse(time.RFC3339Nano, s.(string)); err != nil || time.Since(at) > time.Minute {
			t.Errorf("time %v, %v", s, err)
		}
	}
	if d := cmp.Diff(b[1:], a[1:]); d != "" {
		t.Errorf("-given +own\n%s", d)
	}
	return a[1:]
}

// TestLine: every field an operator may rely on, in its order, whoever writes it.
func TestLine(t *testing.T) {
	hostile := "a\"},{\"msg\":\"x\"}\n\r\t\b\f\x00\x1b\x7f\\<&>\xff\xc0\xaf\u2028\u2029é"
	read := strings.NewReplacer("\xff", "\ufffd", "\xc0", "\ufffd", "\xaf", "\ufffd").Replace(hostile)
	full := Request{Edge: policy.EdgeREST, ID: "id-1", Method: "GET", Route: "/v1/users/{user_id}", RPC: "shop.user.v1.UserService/GetUser",
		Client: netip.MustParseAddr("192.0.2.17"), BytesIn: 3, BytesOut: 1 << 40,
		Call: &policy.Call{Principal: &policy.Principal{Subject: "ada"}, Upstream: "inprocess:user"}}
	denied, bare, nasty := full, Request{Edge: policy.EdgeGRPC}, full
	denied.Call = &policy.Call{Principal: policy.Anonymous, DeniedBy: "address", Why: "over the limit"}
	denied.Client = netip.MustParseAddr("fe80::1%eth0")
	travelled, saved := full, full
	travelled.Call = &policy.Call{Principal: policy.Anonymous, Upstream: "etcd:///users", Backend: "10.0.0.1:9090", Variant: "v2", Attempts: 2, Breaker: "concurrency"}
	saved.Call = &policy.Call{Principal: policy.Anonymous, Upstream: "inprocess:user", Attempts: 1, Cache: "stale"}
	nasty.ID, nasty.Route, nasty.RPC, nasty.Method = hostile, hostile, hostile, hostile
	nasty.Call = &policy.Call{Principal: &policy.Principal{Subject: hostile}, Upstream: hostile, DeniedBy: hostile, Why: hostile}
	head := []field{{"level", "INFO"}, {"msg", "request"}}
	for _, tc := range []struct {
		name       string
		header     http.Header
		request    Request
		suppressed int
		want       []field
	}{
		{"full", http.Header{"Traceparent": {parent}}, full, 0, []field{{"edge", "rest"}, {"request_id", "id-1"}, {"trace_id", "0af7651916cd43dd8448eb211c80319c"},
			{"method", "GET"}, {"route", "/v1/users/{user_id}"}, {"grpc_method", "shop.user.v1.UserService/GetUser"}, {"status", "200"}, {"duration_ms", 1.234},
			{"client", "192.0.2.17"}, {"principal", "ada"}, {"upstream", "inprocess:user"}, {"bytes_in", 3.0}, {"bytes_out", float64(1 << 40)}}},
		{"denied", nil, denied, 41, []field{{"edge", "rest"}, {"request_id", "id-1"},
			{"method", "GET"}, {"route", "/v1/users/{user_id}"}, {"grpc_method", "shop.user.v1.UserService/GetUser"}, {"status", "200"}, {"duration_ms", 1.234},
			{"client", "fe80::1%eth0"}, {"principal", ""}, {"upstream", ""}, {"denied_by", "address"}, {"denied_why", "over the limit"}, {"suppressed", 41.0},
			{"bytes_in", 3.0}, {"bytes_out", float64(1 << 40)}}},
		{"travelled", nil, travelled, 0, []field{{"edge", "rest"}, {"request_id", "id-1"},
			{"method", "GET"}, {"route", "/v1/users/{user_id}"}, {"grpc_method", "shop.user.v1.UserService/GetUser"}, {"status", "200"}, {"duration_ms", 1.234},
			{"client", "192.0.2.17"}, {"principal", ""}, {"upstream", "etcd:///users"}, {"backend", "10.0.0.1:9090"}, {"variant", "v2"}, {"attempts", 2.0},
			{"refused_by", "concurrency"}, {"bytes_in", 3.0}, {"bytes_out", float64(1 << 40)}}},
		{"saved", nil, saved, 0, []field{{"edge", "rest"}, {"request_id", "id-1"},
			{"method", "GET"}, {"route", "/v1/users/{user_id}"}, {"grpc_method", "shop.user.v1.UserService/GetUser"}, {"status", "200"}, {"duration_ms", 1.234},
			{"client", "192.0.2.17"}, {"principal", ""}, {"upstream", "inprocess:user"}, {"cache", "stale"}, {"bytes_in", 3.0}, {"bytes_out", float64(1 << 40)}}},
		{"bare", nil, bare, 0, []field{{"edge", "grpc"}, {"request_id", ""}, {"method", ""}, {"route", ""}, {"grpc_method", ""}, {"status", "200"}, {"duration_ms", 1.234},
			{"client", "invalid IP"}, {"bytes_in", 0.0}, {"bytes_out", 0.0}}},
		{"hostile", nil, nasty, 0, []field{{"edge", "rest"}, {"request_id", read}, {"method", "OTHER"}, {"route", read}, {"grpc_method", read}, {"status", "200"}, {"duration_ms", 1.234},
			{"client", "192.0.2.17"}, {"principal", read}, {"upstream", read}, {"denied_by", read}, {"denied_why", read}, {"bytes_in", 3.0}, {"bytes_out", float64(1 << 40)}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			own, given := bothWays(t, tc.header, tc.request, "200", tc.suppressed)
			got := agree(t, own, given)
			if d := cmp.Diff(append(head[:2:2], tc.want...), got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// FuzzLine: whatever a caller gets into a field, it is one line, and the same one
// whoever writes it.
func FuzzLine(f *testing.F) {
	f.Add("id", "/a/{b}", "ada", "over the limit", "10.0.0.1")
	f.Add("\"}\n{", "\x00\x1f\x7f", "\xff\xfe", "\u2028\u2029\u0085", "::ffff:1.2.3.4")
	f.Add("\\", "\\u0000", "\xed\xa0\x80", "\U0010ffff", "fe80::1%a\"\n")
	f.Fuzz(func(t *testing.T, id, route, subject, why, client string) {
		r := Request{Edge: policy.EdgeREST, ID: id, Method: id, Route: route, RPC: why,
			Call: &policy.Call{Principal: &policy.Principal{Subject: subject}, Upstream: route, DeniedBy: subject, Why: why}}
		if a, err := netip.ParseAddr(client); err == nil {
			r.Client = a
		}
		own, given := bothWays(t, http.Header{"Traceparent": {why}}, r, "200", len(id))
		agree(t, own, given)
	})
}

// TestTracesGoOn: a caller's trace is in the log and in the context whether or not
// anybody traces here; where nobody does and none is named, the context stays.
func TestTracesGoOn(t *testing.T) {
	for name, tracer := range map[string]struct {
		sampled float64 // negative: nobody traces
		header  propagation.TextMapCarrier
		want    string // trace id; - is any
	}{
		"nobody traces":                 {-1, propagation.HeaderCarrier{"Traceparent": {parent}}, "0af7651916cd43dd8448eb211c80319c"},
		"nobody traces, other carrier":  {-1, propagation.MapCarrier{"traceparent": parent}, "0af7651916cd43dd8448eb211c80319c"},
		"nobody traces, none named":     {-1, propagation.HeaderCarrier{}, ""},
		"nobody traces, nonsense named": {-1, propagation.HeaderCarrier{"Traceparent": {"x"}}, ""},
		"sampled by the caller":         {0, propagation.HeaderCarrier{"Traceparent": {parent}}, "0af7651916cd43dd8448eb211c80319c"},
		"not sampled":                   {0, propagation.HeaderCarrier{}, "-"},
		"sampled":                       {1, propagation.HeaderCarrier{}, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			o := Options{Metrics: NewMetrics(), Tracer: untraced(), Output: NewOutput(&b)}
			if tracer.sampled >= 0 {
				o.Tracer = sampled(t, tracer.sampled)
			}
			tele := New(o)
			ctx, r := tele.Begin(context.Background(), policy.EdgeREST, tracer.header)
			r.End(ctx, "200", true)
			if err := o.Output.Close(); err != nil {
				t.Fatal(err)
			}
			var line struct {
				TraceID string `json:"trace_id"`
			}
			if err := json.Unmarshal(b.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
			inContext := ""
			if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
				inContext = sc.TraceID().String()
			}
			if line.TraceID != inContext || tracer.want == "-" && line.TraceID == "" || tracer.want != "-" && line.TraceID != tracer.want {
				t.Errorf("trace %q in the log, %q in the context, want %q", line.TraceID, inContext, tracer.want)
			}
			if tracer.want == "" && ctx != context.Background() {
				t.Error("a context was made for nothing")
			}
		})
	}
}
