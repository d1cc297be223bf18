package rpc_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/gatewaytest/rawhttp2"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/rpc"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// everyKind calls something of every kind that the edge serves.
func everyKind(t *testing.T, cc *grpc.ClientConn) map[string]error {
	t.Helper()
	ctx, out := soon(t), map[string]error{}
	for name, method := range map[string]string{"unary": echo, "unknown service": "/a.B/C", "unknown method": service + "Nope", "odd name": "//x/y"} {
		_, out[name] = invoke(ctx, cc, method, 0)
	}
	_, out["stream"] = stream(ctx, cc, chat)
	_, out["reflection"] = stream(ctx, cc, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
	typed := healthpb.NewHealthClient(cc)
	_, out["health"] = typed.Check(ctx, &healthpb.HealthCheckRequest{})
	return out
}

// TestArrival: the first checks see every call, with a Call that goes on to
// the others.
func TestArrival(t *testing.T) {
	var mu sync.Mutex
	seen, ended := []*policy.Call{}, 0
	e := start(t, func(o *rpc.Options) {
		o.Reflection = true
		o.Client = func(peer netip.Addr, headers func(string) []string) netip.Addr {
			if peer.String() != "127.0.0.1" {
				t.Errorf("peer %s", peer)
			}
			if v := headers("x-forwarded-for"); len(v) == 1 {
				return netip.MustParseAddr(v[0])
			}
			return peer
		}
		o.Arrival = step("address", func(c *policy.Call) error {
			if c.Method != nil || c.Principal == nil || c.RequestID == "" || c.Edge != policy.EdgeGRPC || c.Client.String() != "203.0.113.7" {
				t.Errorf("call %+v", c)
			}
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, c)
			c.OnDone(func(error) {
				mu.Lock()
				defer mu.Unlock()
				ended++
			})
			return nil
		})
	})
	cc := e.dial(nil, grpc.WithUnaryInterceptor(func(ctx context.Context, m string, in, out any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return next(metadata.AppendToOutgoingContext(ctx, "x-forwarded-for", "203.0.113.7"), m, in, out, cc, opts...)
	}), grpc.WithStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, m string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return next(metadata.AppendToOutgoingContext(ctx, "x-forwarded-for", "203.0.113.7"), d, cc, m, opts...)
	}))
	all := everyKind(t, cc)
	for name, err := range all {
		want, reason := codes.OK, ""
		if strings.HasPrefix(name, "unknown") || name == "odd name" {
			want, reason = codes.Unimplemented, "NO_SUCH_METHOD"
		}
		if name == "reflection" { // The empty message is none it knows.
			want = codes.InvalidArgument
		}
		if status.Code(err) != want || reasonOf(err) != reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	eventually(t, "every call has ended", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == len(all) && ended == len(seen)
	})
	e.backend.mu.Lock()
	defer e.backend.mu.Unlock()
	if len(e.backend.calls) != 2 {
		t.Fatalf("%d calls arrived", len(e.backend.calls))
	}
	for _, c := range e.backend.calls {
		found := false
		for _, s := range seen {
			found = found || s == c
		}
		if !found || c.Method == nil {
			t.Errorf("the admitted call %+v is not the one that arrived", c)
		}
	}
	for _, r := range e.requests() { // Labels are of descriptors, never of callers.
		if m := r["grpc_method"]; m != "" && !strings.HasPrefix(fmt.Sprint(m), "sluice.test.v1.") && !strings.HasPrefix(fmt.Sprint(m), "grpc.") {
			t.Errorf("a label out of thin air: %v", m)
		}
		if r["client"] != "203.0.113.7" {
			t.Errorf("client %v", r["client"])
		}
	}
}

// TestArrivalRefuses everything, before anything is read.
func TestArrivalRefuses(t *testing.T) {
	e := start(t, func(o *rpc.Options) {
		o.Reflection = true
		o.Arrival = step("address", func(c *policy.Call) error {
			c.Annotate("RateLimit", `"address";r=0;t=1`)
			return limited(1500 * time.Millisecond)
		})
		o.Edge = step("never", func(*policy.Call) error { t.Error("the edge chain ran"); return nil })
	})
	all := everyKind(t, e.dial(nil))
	for name, err := range all {
		if status.Code(err) != codes.ResourceExhausted || reasonOf(err) != "RATE_LIMITED" {
			t.Errorf("%s: %v", name, err)
		}
	}
	eventually(t, "all are logged", func() bool { return len(e.requests()) == len(all) })
	if got := e.denials(); got != strings.TrimSpace(strings.Repeat("address ", len(all))) {
		t.Errorf("denied %q", got)
	}
	for _, r := range e.requests() {
		if r["denied_by"] != "address" || r["status"] != "ResourceExhausted" {
			t.Errorf("logged %v", r)
		}
	}
	if e.backend.count() != 0 {
		t.Error("a call went on")
	}
}

// TestRefusalsSayWhen: what is left and when to come back reach a caller with
// every refusal, and its library can act on it.
func TestRefusalsSayWhen(t *testing.T) {
	for name, tc := range map[string]struct {
		wait time.Duration
		want string
	}{"soon": {1500 * time.Microsecond, "2"}, "in a while": {3 * time.Second, "3000"}, "tomorrow": {24 * time.Hour, "-1"}} {
		t.Run(name, func(t *testing.T) {
			chain := step("limit", func(c *policy.Call) error {
				c.Annotate("RateLimit", `"read";r=0;t=3`)
				c.Annotate("RateLimit-Policy", `"read";q=10;w=1`)
				return limited(tc.wait)
			})
			for phase, edit := range map[string]func(*rpc.Options){
				"arrival": func(o *rpc.Options) { o.Arrival = chain }, "edge": func(o *rpc.Options) { o.Edge = chain },
			} {
				cc := start(t, edit).dial(nil)
				for kind, call := range map[string]func() (metadata.MD, error){
					"unary": func() (metadata.MD, error) { return invoke(soon(t), cc, echo, 10) }, "stream": func() (metadata.MD, error) { return stream(soon(t), cc, chat) },
				} {
					md, err := call()
					if status.Code(err) != codes.ResourceExhausted || len(md.Get("ratelimit")) != 1 || len(md.Get("ratelimit-policy")) != 1 || len(md.Get("x-request-id")) != 1 {
						t.Errorf("%s %s: %v %v", phase, kind, md, err)
					}
					if got := md.Get("grpc-retry-pushback-ms"); len(got) != 1 || got[0] != tc.want {
						t.Errorf("%s %s: push-back %v, want %s", phase, kind, got, tc.want)
					}
				}
			}
		})
	}
}

// TestPushback: grpc-go's own retries wait as long as we say (gRFC A6), and a
// refusal without a time is not tried again at once by our doing.
func TestPushback(t *testing.T) {
	const wait = 300 * time.Millisecond
	var mu sync.Mutex
	var times []time.Time
	e := start(t, func(o *rpc.Options) {
		o.Edge = step("limit", func(*policy.Call) error {
			mu.Lock()
			defer mu.Unlock()
			times = append(times, time.Now())
			if len(times) == 1 {
				return limited(wait)
			}
			return nil
		})
	})
	cc := e.dial(nil, grpc.WithDefaultServiceConfig(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.001s","maxBackoff":"0.001s","backoffMultiplier":1,"retryableStatusCodes":["RESOURCE_EXHAUSTED"]}}]}`))
	if _, err := invoke(soon(t), cc, echo, 10); err != nil {
		t.Fatal(err)
	}
	if len(times) != 2 || times[1].Sub(times[0]) < wait {
		t.Errorf("attempts at %v", times)
	}
}

// TestAnnotations reach callers on success and on errors, as valid metadata.
func TestAnnotations(t *testing.T) {
	for name, fail := range map[string]error{"success": nil, "refusal": status.Error(codes.PermissionDenied, "no")} {
		e := start(t, func(o *rpc.Options) {
			o.Edge = step("annotate", func(c *policy.Call) error {
				c.Annotate("RateLimit", "a")
				c.Annotate("RateLimit", "b")
				c.Annotate("X-Bad", "line\nbreak")
				c.Annotate("X-Bad", "ünicode")
				c.Annotate("X Bad", "x")
				c.Annotate("", "x")
				c.Annotate("grpc-status", "0")
				c.Annotate(":status", "200")
				c.Annotate("x-bin", "x")
				c.Annotate("Connection", "close")
				c.Annotate("x-bad", strings.Repeat("x", 5000))
				return fail
			})
		})
		cc := e.dial(nil)
		for kind, call := range map[string]func() (metadata.MD, error){
			"unary": func() (metadata.MD, error) { return invoke(soon(t), cc, echo, 10) }, "stream": func() (metadata.MD, error) { return stream(soon(t), cc, chat) },
		} {
			md, err := call()
			if status.Code(err) != status.Code(fail) {
				t.Errorf("%s %s: %v", name, kind, err)
			}
			if got := strings.Join(md.Get("ratelimit"), ","); got != "a,b" || len(md.Get("x-request-id")) != 1 {
				t.Errorf("%s %s: %v", name, kind, md)
			}
			for _, k := range []string{"x-bad", "x bad", "x-bin", "connection", "grpc-retry-pushback-ms"} {
				if len(md.Get(k)) > 0 {
					t.Errorf("%s %s: %s is %q", name, kind, k, md.Get(k))
				}
			}
			if kind == "unary" && fail == nil && len(md.Get("idempotency-replayed")) != 1 {
				t.Errorf("the service's header is lost: %v", md)
			}
		}
	}
}

// TestRefusedBeforeTheMessage: who may not call gets its answer without
// sending one.
func TestRefusedBeforeTheMessage(t *testing.T) {
	e := start(t, func(o *rpc.Options) {
		o.Edge = step("authenticate", func(*policy.Call) error { return status.Error(codes.Unauthenticated, "who are you?") })
	})
	c := rawhttp2.Dial(t, e.addr, nil)
	for i, path := range []string{echo, chat, service + "Down"} {
		id := uint32(2*i + 1)
		if err := c.Headers(id, false, rawhttp2.GRPC(path)...); err != nil {
			t.Fatal(err)
		}
		if fields, reset := c.Answer(id, 10*time.Second); fields["grpc-status"] != "16" {
			t.Errorf("%s: %v %v", path, fields, reset)
		}
	}
}

// TestInterceptorsSeeMessages: a team's own run inside Arrival and around Edge.
func TestInterceptorsSeeMessages(t *testing.T) {
	var order []string
	e := start(t, func(o *rpc.Options) {
		o.Arrival = step("arrival", func(*policy.Call) error { order = append(order, "arrival"); return nil })
		o.Edge = step("edge", func(*policy.Call) error { order = append(order, "edge"); return nil })
		o.Unary = []grpc.UnaryServerInterceptor{func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			order = append(order, fmt.Sprintf("team %s %d", info.FullMethod, len(req.(*wire.Frame).Data)))
			return next(ctx, &wire.Frame{Data: []byte("changed")})
		}}
	})
	out := &wire.Frame{}
	if err := e.dial(nil).Invoke(soon(t), echo, &wire.Frame{Data: make([]byte, 3)}, out); err != nil || string(out.Data) != "changed" {
		t.Errorf("%q, %v", out.Data, err)
	}
	if got := strings.Join(order, ", "); got != "arrival, team "+echo+" 3, edge" {
		t.Error(got)
	}
}

// TestSizes: what is too large is answered, logged and counted, compressed or
// not, whoever refuses it. TestBomb looks at what it costs.
func TestSizes(t *testing.T) {
	e := start(t, nil)
	cc := e.dial(nil)
	for i, tc := range []struct {
		name   string
		n      int
		gzip   bool
		want   codes.Code
		reason string
	}{
		{"fits", 1 << 20, false, codes.OK, ""},
		{"fits, gzip", 1 << 20, true, codes.OK, ""},
		{"beyond the method's", 1<<20 + 4097, false, codes.ResourceExhausted, "BODY_TOO_LARGE"},
		{"beyond the method's, gzip", 1<<20 + 4097, true, codes.ResourceExhausted, "BODY_TOO_LARGE"},
		{"beyond any", 5 << 20, false, codes.ResourceExhausted, ""},
		{"beyond any, gzip", 16 << 20, true, codes.ResourceExhausted, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before, opts := e.refusals("message_bytes"), []grpc.CallOption{grpc.MaxCallRecvMsgSize(64 << 20)}
			if tc.gzip {
				opts = append(opts, grpc.UseCompressor(gzip.Name))
			}
			_, err := invoke(soon(t), cc, echo, tc.n, opts...)
			if status.Code(err) != tc.want || reasonOf(err) != tc.reason {
				t.Errorf("%v, reason %q", err, reasonOf(err))
			}
			eventually(t, "it is logged", func() bool { return len(e.requests()) == i+1 })
			want := 0
			if tc.want != codes.OK {
				want = 1
			}
			if got := e.refusals("message_bytes") - before; got != want {
				t.Errorf("counted %d times", got)
			}
			if got := e.requests()[i]; got["status"] != tc.want.String() || got["grpc_method"] != echo[1:] {
				t.Errorf("logged %v", got)
			}
		})
	}
	t.Run("stream", func(t *testing.T) {
		before := e.refusals("message_bytes")
		st, err := cc.NewStream(soon(t), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, chat)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.SendMsg(&wire.Frame{Data: make([]byte, 2<<20)}); err != nil {
			t.Fatal(err)
		}
		if err := st.RecvMsg(&wire.Frame{}); status.Code(err) != codes.ResourceExhausted || reasonOf(err) != "BODY_TOO_LARGE" {
			t.Errorf("%v", err)
		}
		if got := e.refusals("message_bytes") - before; got != 1 {
			t.Errorf("counted %d times", got)
		}
	})
}
