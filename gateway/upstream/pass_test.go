package upstream_test

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// passing lets X-Lang pass to a method's service, and x-total back.
func passing(t *testing.T, methods ...string) func(*upstream.Options) {
	return func(o *upstream.Options) {
		o.Pass = map[string]*headers.Pass{}
		for _, name := range methods {
			m := *o.Catalogue.Method(service + name).Method
			m.Rule.Metadata = policy.Metadata{Request: []string{"X-Lang"}, Response: []string{"x-total"}}
			p, err := headers.CompilePass(&m)
			if err != nil {
				t.Fatal(err)
			}
			o.Pass[m.FullName] = p
		}
	}
}

// TestPassInEveryAttempt: each attempt, and the copy for a shadow, has what passes of the
// caller's headers; of what attempts answer beside their messages the last one's counts.
func TestPassInEveryAttempt(t *testing.T) {
	for _, kind := range []string{"inprocess", "remote"} {
		t.Run(kind, func(t *testing.T) {
			got, copied := make(chan []string, 2), make(chan []string, 1)
			langs := func(ctx context.Context) []string {
				md, _ := metadata.FromIncomingContext(ctx)
				return md.Get("x-lang")
			}
			srv := &server{echo: func(ctx context.Context, n int32, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
				got <- langs(ctx)
				if n == 1 {
					_ = grpc.SetHeader(ctx, metadata.Pairs("x-total", "of the first"))
					return nil, status.Error(codes.Unavailable, "")
				}
				return &testv1.EchoResponse{}, grpc.SetHeader(ctx, metadata.Pairs("x-total", "2", "x-secret", "hunter2"))
			}}
			shadow := &server{echo: func(ctx context.Context, _ int32, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
				copied <- langs(ctx)
				return &testv1.EchoResponse{}, nil
			}}
			f := travel(t, srv.target(t, kind), upstream.ServiceOptions{Resilience: resilient(t, resilience.Options{}),
				Shadow: &upstream.Shadow{Target: shadow.target(t, kind), Percent: 100}}, passing(t, "Echo"))
			var header metadata.MD
			c := &policy.Call{Edge: policy.EdgeREST, Headers: http.Header{"X-Lang": {"en", "de"}, "X-Other": {"1"}}.Values}
			err := f.Invoke(f.admit(t, "Echo", c), service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{}, &header)
			if err != nil || len(header) != 1 || !slices.Equal(header["x-total"], []string{"2"}) {
				t.Errorf("%v, %v", header, err)
			}
			for _, ch := range []chan []string{got, got, copied} {
				select {
				case v := <-ch:
					if !slices.Equal(v, []string{"en", "de"}) {
						t.Errorf("the service got %q", v)
					}
				case <-time.After(30 * time.Second):
					t.Fatal("nobody was called")
				}
			}
		})
	}
}

// TestPassInBranches: a branch gets its caller's headers by its own method's rule, not by
// its composite's, and its composite nothing of what its service said beside the answer,
// unless that method's rule says so.
func TestPassInBranches(t *testing.T) {
	for name, tc := range map[string]struct {
		rules []string
		want  []string
		heard int
	}{
		"of the composite": {[]string{"ListNames"}, nil, 0},
		"of the branch":    {[]string{"Echo"}, []string{"en"}, 1},
	} {
		for _, kind := range []string{"inprocess", "remote"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				var got []string
				srv := &server{echo: func(ctx context.Context, _ int32, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
					md, _ := metadata.FromIncomingContext(ctx)
					got = md.Get("x-lang")
					return &testv1.EchoResponse{}, grpc.SetHeader(ctx, metadata.Pairs("x-total", "2"))
				}}
				f := travel(t, srv.target(t, kind), upstream.ServiceOptions{}, passing(t, tc.rules...))
				ctx := f.admit(t, "ListNames", &policy.Call{Edge: policy.EdgeGRPC, Headers: metadata.Pairs("x-lang", "en").Get})
				var header metadata.MD
				err := f.Branches().Invoke(ctx, service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{}, grpc.Header(&header))
				if err != nil || !slices.Equal(got, tc.want) || len(header) != tc.heard {
					t.Errorf("the service got %q, the composite %v, %v", got, header, err)
				}
			})
		}
	}
}
