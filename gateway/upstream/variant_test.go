package upstream_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// variants is a service with the canaries; who answered stands in the answer.
func variants(t *testing.T, canaries ...upstream.Canary) *travelling {
	t.Helper()
	named := func(name string) upstream.Target {
		s := &server{echo: func(context.Context, int32, *testv1.EchoRequest) (*testv1.EchoResponse, error) {
			return &testv1.EchoResponse{Id: name}, nil
		}}
		return s.target(t, "inprocess")
	}
	for i := range canaries {
		canaries[i].Target = named(canaries[i].Name)
	}
	return travel(t, named("itself"), upstream.ServiceOptions{Canaries: canaries})
}

// TestCanaryMatch: headers and cookies choose before any percent does, and nothing that
// a caller sends as a cookie does harm.
func TestCanaryMatch(t *testing.T) {
	f := variants(t,
		upstream.Canary{Name: "all-but-those", Percent: 100, Methods: []string{"ListNames"}},
		upstream.Canary{Name: "a", Match: []upstream.CanaryMatch{{Header: "X-Canary", Value: "a"}, {Cookie: "canary"}}},
		upstream.Canary{Name: "b", Percent: 0, Match: []upstream.CanaryMatch{{Header: "X-B"}, {Cookie: "v", Value: "b"}}})
	for _, tc := range []struct {
		h    http.Header
		want string
	}{
		{http.Header{}, "itself"},
		{http.Header{"X-Canary": {"a"}}, "a"},
		{http.Header{"X-Canary": {"z", "a"}}, "a"},
		{http.Header{"X-Canary": {"b"}}, "itself"},
		{http.Header{"X-B": {""}}, "b"},
		{http.Header{"Cookie": {"x=1; canary=anything"}}, "a"},
		{http.Header{"Cookie": {"x=1", "v=b"}}, "b"},
		{http.Header{"Cookie": {"v=c; v=b"}}, "itself"},
		{http.Header{"Cookie": {"xcanary=1"}}, "itself"},
		{http.Header{"Cookie": {strings.Repeat(";=,\x00\"", 1000), "=canary"}}, "itself"},
		{http.Header{"X-B": {"1"}, "X-Canary": {"a"}}, "a"},
	} {
		for _, edge := range []policy.Edge{policy.EdgeREST, policy.EdgeGRPC} {
			call := policy.Call{Edge: edge, Headers: tc.h.Values}
			if edge == policy.EdgeGRPC {
				md := metadata.MD{}
				for k, v := range tc.h {
					md[strings.ToLower(k)] = v
				}
				call.Headers = md.Get
			}
			out, err := f.echo(t, &call, "")
			if err != nil || out.GetId() != tc.want || call.Variant != strings.TrimSuffix(tc.want, "itself") {
				t.Errorf("%.60q over %s: %v, variant %q, %v", tc.h, edge, out, call.Variant, err)
			}
		}
	}
	if got := f.counter(t, "sluice_variant_requests_total", "a", "OK"); got != 8 {
		t.Errorf("%v calls of a counted", got)
	}
}

// TestCanarySticky: a caller always gets the same, percent are what they say, and who is
// in stays in when they grow.
func TestCanarySticky(t *testing.T) {
	const callers = 4000
	in := func(percent float64, anonymous bool) map[int]bool {
		f := variants(t, upstream.Canary{Name: "next", Percent: percent})
		got := map[int]bool{}
		for i := range callers {
			call := func() *policy.Call {
				if anonymous {
					return &policy.Call{Principal: policy.Anonymous, Client: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}
				}
				return &policy.Call{Principal: policy.NewPrincipal(fmt.Sprint("user-", i), "https://issuer", nil, time.Time{})}
			}
			a, b := call(), call()
			if _, err := f.echo(t, a, ""); err != nil {
				t.Fatal(err)
			}
			if _, err := f.echo(t, b, ""); err != nil || a.Variant != b.Variant {
				t.Fatalf("%d got %q, then %q (%v)", i, a.Variant, b.Variant, err)
			}
			got[i] = a.Variant == "next"
		}
		return got
	}
	count := func(m map[int]bool) (n int) {
		for _, v := range m {
			if v {
				n++
			}
		}
		return n
	}
	for _, anonymous := range []bool{false, true} {
		ten, twenty := in(10, anonymous), in(20, anonymous)
		for i, was := range ten {
			if was && !twenty[i] {
				t.Fatalf("caller %d was put out when percent grew", i)
			}
		}
		// Five standard deviations of a fair draw.
		for percent, n := range map[float64]int{10: count(ten), 20: count(twenty)} {
			want, dev := callers*percent/100, math.Sqrt(callers*percent/100*(1-percent/100))
			if math.Abs(float64(n)-want) > 5*dev {
				t.Errorf("anonymous %v: %d of %d callers at %v percent", anonymous, n, callers, percent)
			}
		}
	}
}

// TestCanaryOfItsOwn: a canary that fails has its own breaker, and the service goes on.
func TestCanaryOfItsOwn(t *testing.T) {
	bad := &server{echo: func(context.Context, int32, *testv1.EchoRequest) (*testv1.EchoResponse, error) {
		return nil, status.Error(codes.Internal, "x")
	}}
	main, own := resilient(t, resilience.Options{}), resilient(t, resilience.Options{Breaker: resilience.BreakerOptions{MinRequests: 3}})
	f := travel(t, (&server{}).target(t, "inprocess"), upstream.ServiceOptions{Resilience: main, Canaries: []upstream.Canary{{
		Name: "next", Target: bad.target(t, "inprocess"), Resilience: own, Match: []upstream.CanaryMatch{{Header: "x-next"}},
	}}})
	for range 5 {
		if _, err := f.echo(t, &policy.Call{Headers: http.Header{"X-Next": {"1"}}.Values}, ""); err == nil {
			t.Error("the canary answered")
		}
		if _, err := f.echo(t, &policy.Call{}, ""); err != nil {
			t.Error(err)
		}
	}
	if own.States()[0].State != "open" || main.States()[0].State != "closed" || bad.calls.Load() != 3 {
		t.Errorf("%+v, %+v, %d calls of the canary", own.States()[0], main.States()[0], bad.calls.Load())
	}
}

// TestShadow: a copy goes out with what the call has, whatever becomes of it the caller
// has its answer, and none is left when the Conn is closed.
func TestShadow(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			type got struct {
				id string
				md metadata.MD
			}
			seen, hold := make(chan got, 10), make(chan struct{})
			shadow := &server{echo: func(ctx context.Context, n int32, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
				md, _ := metadata.FromIncomingContext(ctx)
				seen <- got{r.GetId(), md}
				switch n {
				case 1:
					return &testv1.EchoResponse{Id: "nobody sees it"}, nil
				case 2:
					panic("nobody hears it")
				}
				select {
				case <-ctx.Done():
				case <-hold:
				}
				return nil, status.Error(codes.Internal, "x")
			}}
			if kind == "remote" { // There a panic is the process's end.
				shadow.calls.Add(2)
			}
			f := travel(t, (&server{}).target(t, kind), upstream.ServiceOptions{Shadow: &upstream.Shadow{Target: shadow.target(t, kind), Percent: 100, MaxInFlight: 2}})
			sent := 0
			for sent < 6 {
				out, err := f.echo(t, &policy.Call{RequestID: "r-1"}, "ada")
				if err != nil || out.GetId() != "ada" {
					t.Fatal(out, err)
				}
				sent++
				if sent <= 2 { // One after another: the two in flight stay for the rest.
					g := <-seen
					if g.id != "ada" || !slices.Equal(g.md.Get(upstream.MetadataShadow), []string{"1"}) || g.md.Get(upstream.MetadataAssertion)[0] != "ada@"+testService {
						t.Errorf("%+v", g)
					}
				}
			}
			f.Close()
			ok, failed, dropped := f.counter(t, "sluice_shadow_total", "ok"), f.counter(t, "sluice_shadow_total", "failed"), f.counter(t, "sluice_shadow_total", "dropped")
			if ok+failed+dropped != 6 || dropped == 0 || failed == 0 {
				t.Errorf("%v ok, %v failed, %v dropped", ok, failed, dropped)
			}
			if _, err := f.echo(t, &policy.Call{}, "ada"); err != nil {
				t.Error(err)
			}
			if got := f.counter(t, "sluice_shadow_total", "dropped"); got != dropped+1 {
				t.Errorf("%v dropped after Close", got)
			}
		})
	}
}

// TestFaults: they strike who they name, within the deadline, and are told as such.
func TestFaults(t *testing.T) {
	s := &server{}
	f := travel(t, s.target(t, "inprocess"), upstream.ServiceOptions{Faults: []upstream.Fault{
		{Abort: codes.Aborted, Percent: 100, Header: "x-fault", Value: "abort"},
		{Delay: time.Hour, Percent: 100, Header: "x-fault", Value: "delay"},
		{Abort: codes.Internal, Percent: 100, Methods: []string{"ListNames"}},
		{Delay: time.Nanosecond, Abort: codes.OK, Percent: 100, Header: "x-fault", Value: "moment"},
	}})
	call := func(value string, limit time.Duration) error {
		ctx := f.admit(t, "Echo", &policy.Call{Headers: http.Header{"X-Fault": {value}}.Values})
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return f.Invoke(ctx, service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{})
	}
	code(t, call("none", time.Minute), codes.OK)
	code(t, call("moment", time.Minute), codes.OK)
	err := call("abort", time.Minute)
	code(t, err, codes.Aborted)
	if reason(err) != upstream.ReasonFault {
		t.Error(err)
	}
	code(t, call("delay", 20*time.Millisecond), codes.DeadlineExceeded)
	if s.calls.Load() != 2 || len(f.done) != 2 {
		t.Errorf("%d calls, %v counted", s.calls.Load(), f.done)
	}
	if a, d := f.counter(t, "sluice_faults_total", "abort"), f.counter(t, "sluice_faults_total", "delay"); a != 1 || d != 2 {
		t.Errorf("%v aborts, %v delays", a, d)
	}
}

// TestHeaderRules: what rules say goes to the service and onto the answer.
func TestHeaderRules(t *testing.T) {
	program := func(s headers.Scope, set, add map[string]string) *headers.Program {
		s.GRPC = true
		p, err := headers.Compile(headers.Rules{Set: set, Add: add}, s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			var md metadata.MD
			s := &server{echo: func(ctx context.Context, _ int32, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
				md, _ = metadata.FromIncomingContext(ctx)
				return &testv1.EchoResponse{}, nil
			}}
			f := travel(t, s.target(t, kind), upstream.ServiceOptions{}, func(o *upstream.Options) {
				o.Services = nil
				o.Headers = map[string]upstream.MethodHeaders{service + "Echo": {
					Request:  program(headers.Scope{}, map[string]string{"x-who": "{principal.subject} by {route}"}, map[string]string{"x-who": "twice"}),
					Response: program(headers.Scope{Response: true}, map[string]string{"x-region": "eu {request_id}"}, nil),
				}}
			})
			got := http.Header{}
			if _, err := f.echo(t, &policy.Call{RequestID: "r-1", Annotate: got.Add}, ""); err != nil {
				t.Fatal(err)
			}
			if want := []string{"ada by " + testService + "/Echo", "twice"}; !slices.Equal(md.Get("x-who"), want) {
				t.Errorf("sent %v", md)
			}
			if got.Get("X-Region") != "eu r-1" {
				t.Errorf("answered %v", got)
			}
		})
	}
}

// TestStreamPermits: a stream is asked for at its opening, its outcome is that of its first message
// or its end, and it is in flight only until it is open.
func TestStreamPermits(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			r := resilient(t, resilience.Options{Breaker: resilience.BreakerOptions{MinRequests: 3}})
			s := &server{down: func(ss grpc.ServerStreamingServer[testv1.EchoResponse]) error {
				if err := ss.Send(&testv1.EchoResponse{}); err != nil {
					return err
				}
				<-ss.Context().Done()
				return nil
			}}
			f := travel(t, s.target(t, kind), upstream.ServiceOptions{Resilience: r}, func(o *upstream.Options) { o.Observer = nil })
			desc := &grpc.StreamDesc{StreamName: "Down", ServerStreams: true}
			open := func() (grpc.ClientStream, context.CancelFunc, error) {
				ctx, cancel := context.WithCancel(f.admit(t, "Down", &policy.Call{}))
				st, err := f.NewStream(ctx, desc, service+"Down")
				if err == nil {
					err = st.SendMsg(&testv1.DownRequest{})
				}
				return st, cancel, err
			}
			st, cancel, err := open()
			defer cancel()
			if err != nil {
				t.Fatal(err)
			}
			if n := r.States()[0].InFlight; n != 0 {
				t.Errorf("%d in flight while its caller waits for a message", n)
			}
			if err := st.RecvMsg(&testv1.EchoResponse{}); err != nil {
				t.Fatal(err)
			}
			if n := r.States()[0].InFlight; n != 0 {
				t.Errorf("%d places held by an open stream", n)
			}
			cancel()
			s.down = func(grpc.ServerStreamingServer[testv1.EchoResponse]) error {
				return status.Error(codes.Unavailable, "x")
			}
			for range 10 {
				st, cancel, err := open()
				if err == nil {
					err = st.RecvMsg(&testv1.EchoResponse{})
				}
				cancel()
				code(t, err, codes.Unavailable)
				if reason(err) == upstream.ReasonBreakerOpen {
					return
				}
			}
			t.Errorf("never opened: %+v", r.States())
		})
	}
}

// TestBranchShare: a branch has its share of the composite's time, so that something is
// left to answer without it; whose time that is, it has of its composite.
func TestBranchShare(t *testing.T) {
	var left time.Duration
	f := travel(t, &backend{seen: func(ctx context.Context) error {
		end, _ := ctx.Deadline()
		left = time.Until(end)
		return nil
	}}, upstream.ServiceOptions{})
	for _, tc := range []struct {
		share, low, high int
	}{{90, 80, 90}, {50, 40, 50}, {100, 90, 100}} {
		m := *f.table.Method(service + "ListNames").Method
		m.Rule.BranchShare = tc.share
		parent := policy.Call{Method: &m, Ends: time.Now().Add(10 * time.Second), Shortened: true, Headers: http.Header{}.Values}
		ctx, err := policy.Chain{}.Admit(t.Context(), &parent)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Branches().Invoke(ctx, service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{}); err != nil {
			t.Fatal(err)
		}
		if percent := int(left / (100 * time.Millisecond)); percent < tc.low || percent > tc.high {
			t.Errorf("%v of 10s left with a share of %d percent", left, tc.share)
		}
	}
}

// TestServicesRefused: what cannot be stops the start, and says what.
func TestServicesRefused(t *testing.T) {
	target := (&server{}).target(t, "inprocess")
	for name, tc := range map[string]struct {
		o    upstream.ServiceOptions
		want string
	}{
		"canary's name":      {upstream.ServiceOptions{Canaries: []upstream.Canary{{Name: "Next", Target: target}}}, "lower-case"},
		"canary's target":    {upstream.ServiceOptions{Canaries: []upstream.Canary{{Name: "next"}}}, "no target"},
		"canary's percent":   {upstream.ServiceOptions{Canaries: []upstream.Canary{{Name: "next", Target: target, Percent: math.NaN()}}}, "percent"},
		"canary's method":    {upstream.ServiceOptions{Canaries: []upstream.Canary{{Name: "next", Target: target, Methods: []string{"Ecko"}}}}, "Ecko"},
		"canary's match":     {upstream.ServiceOptions{Canaries: []upstream.Canary{{Name: "next", Target: target, Match: []upstream.CanaryMatch{{}}}}}, "header or a cookie"},
		"a canary twice":     {upstream.ServiceOptions{Canaries: []upstream.Canary{{Name: "next", Target: target}, {Name: "next", Target: target}}}, "twice"},
		"shadow's target":    {upstream.ServiceOptions{Shadow: &upstream.Shadow{Percent: 1}}, "no target"},
		"shadow's percent":   {upstream.ServiceOptions{Shadow: &upstream.Shadow{Target: target}}, "percent"},
		"nothing of a fault": {upstream.ServiceOptions{Faults: []upstream.Fault{{Percent: 1}}}, "neither"},
		"fault's percent":    {upstream.ServiceOptions{Faults: []upstream.Fault{{Delay: 1, Percent: 101}}}, "percent"},
	} {
		f := connect(t, signer{})
		_, err := upstream.New(upstream.Options{Catalogue: f.table, Targets: map[string]upstream.Target{testService: target}, Services: map[string]upstream.ServiceOptions{testService: tc.o}})
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), testService) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := connect(t, signer{})
	for _, o := range []upstream.Options{
		{Services: map[string]upstream.ServiceOptions{"no.Such": {}}},
		{Headers: map[string]upstream.MethodHeaders{"/no.Such/Method": {}}},
	} {
		o.Catalogue, o.Targets = f.table, map[string]upstream.Target{testService: target}
		if _, err := upstream.New(o); err == nil || !strings.Contains(err.Error(), "no.Such") {
			t.Error(err)
		}
	}
}
