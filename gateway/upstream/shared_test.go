package upstream_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// caller is a call of ada's that says who she is wherever a call can.
func caller(subject string) *policy.Call {
	p := policy.NewPrincipal(subject, "ada's issuer", []string{"ada.read"}, time.Time{})
	if p.Tenant = "ada's"; subject == "" {
		p = policy.Anonymous
	}
	return &policy.Call{Principal: p, RequestID: "ada-1", Client: netip.MustParseAddr("192.0.2.77"), Peer: netip.MustParseAddrPort("192.0.2.77:1"),
		Headers: http.Header{"X-Request-Id": {"ada-1"}, "X-Who": {"ada"}}.Values}
}

var longHex = regexp.MustCompile("[0-9a-f]{16,}")

// TestNobodyIsNamedForOthers: what a service, or a composite's branches, are asked for on
// behalf of others says nothing of who asked first.
func TestNobodyIsNamedForOthers(t *testing.T) {
	state, err := trace.ParseTraceState("ada=1")
	if err != nil {
		t.Fatal(err)
	}
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceState: state})
	for _, kind := range kinds {
		for name, tc := range map[string]struct {
			scope   policyv1.CacheScope
			subject string
			named   bool
		}{
			"for everybody":          {policyv1.CacheScope_CACHE_SCOPE_PUBLIC, "ada", false},
			"for one, who is nobody": {policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, "", false},
			"for one":                {policyv1.CacheScope_CACHE_SCOPE_PRINCIPAL, "ada", true},
		} {
			t.Run(kind+" "+name, func(t *testing.T) {
				s := &server{echo: func(ctx context.Context, _ int32, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
					md, _ := metadata.FromIncomingContext(ctx)
					var out strings.Builder
					for _, key := range []string{upstream.MetadataAssertion, upstream.MetadataRequestID, "traceparent", "tracestate"} {
						out.WriteString(key + "=" + strings.Join(md.Get(key), ",") + "; ")
					}
					if c := policy.Admitted(ctx); c != nil { // As a composite's branches have it.
						out.WriteString(c.Principal.Subject + c.Principal.Tenant + c.RequestID + strings.Join(c.Headers("x-who"), ""))
						if c.Client.IsValid() {
							out.WriteString(c.Client.String() + c.Peer.String())
						}
					}
					return &testv1.EchoResponse{Id: out.String()}, nil
				}}
				c, err := cache.New(cache.Options{})
				if err != nil {
					t.Fatal(err)
				}
				f := travelBy(t, s.target(t, kind), upstream.ServiceOptions{}, policy.Override{Cache: &policyv1.Cache{Scope: tc.scope, Ttl: durationpb.New(time.Hour)}},
					func(o *upstream.Options) { o.Cache = c })
				out := &testv1.EchoResponse{}
				ctx := trace.ContextWithSpanContext(f.admit(t, "Echo", caller(tc.subject)), span)
				if err := f.Invoke(ctx, service+"Echo", &testv1.EchoRequest{Id: "x"}, out); err != nil {
					t.Fatal(err)
				}
				// Random hexadecimal digits may spell her name.
				if told := strings.Contains(longHex.ReplaceAllString(out.GetId(), ""), "ada") || strings.Contains(out.GetId(), "192.0.2.77"); told != tc.named {
					t.Errorf("the service is told %s", out.GetId())
				}
				if !strings.Contains(out.GetId(), "@"+testService) || !strings.Contains(out.GetId(), span.TraceID().String()) || strings.Contains(out.GetId(), "x-request-id=;") {
					t.Errorf("the service is told too little: %s", out.GetId())
				}
			})
		}
	}
}

// TestTemplatesOfCallerAreTold: header rules speak of the caller all the same, for what
// they say is in the key.
func TestTemplatesOfCallerAreTold(t *testing.T) {
	s := &server{echo: func(ctx context.Context, _ int32, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		return &testv1.EchoResponse{Id: strings.Join(append(md.Get("x-caller"), md.Get(upstream.MetadataAssertion)...), " ")}, nil
	}}
	p, err := headers.Compile(headers.Rules{Set: map[string]string{"x-caller": "{principal.subject} {client.address} {header.x-who} {request_id}"}}, headers.Scope{GRPC: true})
	if err != nil {
		t.Fatal(err)
	}
	f := keeping(t, s.target(t, "remote"), upstream.ServiceOptions{}, func(o *upstream.Options) {
		o.Headers = map[string]upstream.MethodHeaders{service + "Echo": {Request: p}}
	})
	out, err := f.echo(t, caller("ada"), "x")
	if err != nil || !strings.HasPrefix(out.GetId(), "ada 192.0.2.77 ada ") || strings.Contains(out.GetId(), "ada-1") || !strings.HasSuffix(out.GetId(), " @"+testService) {
		t.Errorf("%q, %v", out.GetId(), err)
	}
}

// TestWhoIsRefusedWithoutName: a service that lets only some in has the answer to each of
// them alone, however it refuses the others. Each has been asked for once, by name. Who
// has no name gets what she gets where nothing is cached.
func TestWhoIsRefusedWithoutName(t *testing.T) {
	for _, kind := range kinds {
		for code, nobody := range map[codes.Code]codes.Code{codes.PermissionDenied: codes.PermissionDenied, codes.Unauthenticated: codes.Internal} {
			t.Run(kind+" "+code.String(), func(t *testing.T) {
				s := &server{echo: func(ctx context.Context, _ int32, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
					md, _ := metadata.FromIncomingContext(ctx)
					if who, _, _ := strings.Cut(md.Get(upstream.MetadataAssertion)[0], "@"); who != "" {
						return &testv1.EchoResponse{Id: who}, nil
					}
					return nil, status.Error(code, "who?")
				}}
				f := keeping(t, s.target(t, kind), upstream.ServiceOptions{})
				for _, who := range []string{"ada", "grace", "ada"} {
					call := caller(who)
					out, err := f.echo(t, call, "x")
					if err != nil || out.GetId() != who || call.Cache != "bypass" || call.Attempts != 1 {
						t.Errorf("%s gets %q by %s, %d attempts, %v", who, out.GetId(), call.Cache, call.Attempts, err)
					}
				}
				plain := travel(t, s.target(t, kind), upstream.ServiceOptions{})
				for name, f := range map[string]*travelling{"cached": f, "not cached": plain} {
					if _, err := f.echo(t, caller(""), "x"); status.Code(err) != nobody {
						t.Errorf("%s: nobody gets %v", name, err)
					}
				}
			})
		}
	}
}

// TestUnsafeMethodsPass: over REST, a method that is not safe is never answered by what
// is cached, and nothing is cached for its path afterwards (RFC 9111, 4 and 4.4). Over
// gRPC a method that reads reads.
func TestUnsafeMethodsPass(t *testing.T) {
	f := keeping(t, (&server{}).target(t, "inprocess"), upstream.ServiceOptions{})
	for i, step := range []struct {
		id     string
		writes bool
		want   string
	}{
		{"x", false, "miss"}, {"y", false, "miss"}, {"x", false, "hit"}, {"x", true, "bypass"}, {"x", false, "miss"}, {"y", false, "hit"},
		{"y", true, "bypass"}, {"y", false, "miss"}, {"x", false, "hit"},
	} {
		call := &policy.Call{Writes: step.writes}
		if _, err := f.echo(t, call, step.id); err != nil || call.Cache != step.want {
			t.Errorf("%d: %s, want %s; %v", i, call.Cache, step.want, err)
		}
	}
}

// ups answers a stream of requests, or fails as it is told.
type ups struct {
	server
	fails codes.Code
}

func (s *ups) Up(ss grpc.ClientStreamingServer[testv1.EchoRequest, testv1.EchoResponse]) error {
	for {
		if _, err := ss.Recv(); err != nil {
			break
		}
	}
	if s.fails != codes.OK {
		return status.Error(s.fails, "told to")
	}
	return ss.SendAndClose(&testv1.EchoResponse{})
}

// TestStreamsRemoveTheirPath: a stream that writes removes what is cached for its path
// when it ends, as far as it may have changed something.
func TestStreamsRemoveTheirPath(t *testing.T) {
	for fails, want := range map[codes.Code]bool{codes.OK: false, codes.Unavailable: false, codes.InvalidArgument: true} {
		c, err := cache.New(cache.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s := &ups{fails: fails}
		target := upstream.InProcess(upstream.Host{Name: "test", Logger: slog.New(slog.DiscardHandler), Register: func(r grpc.ServiceRegistrar) { testv1.RegisterTestServiceServer(r, s) }})
		f := travelBy(t, target, upstream.ServiceOptions{}, policy.Override{}, func(o *upstream.Options) {
			o.Cache = c
			o.Catalogue.Method(service + "GetNamed").Rule.Cache = &policy.Cache{Public: true, TTL: time.Hour} // Its path can be any.
		})
		kept := c.Route("/other", &policy.Cache{Public: true, TTL: time.Hour})
		key := kept.AppendKey(nil, policy.Anonymous)
		if _, _, err := kept.Do(t.Context(), key, nil, false, func(context.Context) (*cache.Entry, error) {
			return &cache.Entry{Tags: []string{cache.Target("", "/test/v1/up")}}, nil
		}); err != nil {
			t.Fatal(err)
		}
		stream, err := f.NewStream(f.admit(t, "Up", &policy.Call{}), &grpc.StreamDesc{ClientStreams: true}, service+"Up")
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := stream.SendMsg(&testv1.EchoRequest{Id: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		if e, _ := kept.Get(key); e == nil {
			t.Error("it is gone before the stream has ended")
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(&testv1.EchoResponse{}); status.Code(err) != fails {
			t.Errorf("%v, want %s", err, fails)
		}
		if e, _ := kept.Get(key); (e != nil) != want {
			t.Errorf("after %s it is there: %v", fails, e != nil)
		}
	}
}
