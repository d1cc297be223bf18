package upstream_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

const testService = "sluice.test.v1.TestService"

// server is the test service; its Echo and Down do what a test says.
type server struct {
	testv1.UnimplementedTestServiceServer
	calls atomic.Int32
	echo  func(ctx context.Context, n int32, r *testv1.EchoRequest) (*testv1.EchoResponse, error)
	down  func(ss grpc.ServerStreamingServer[testv1.EchoResponse]) error
}

func (s *server) Echo(ctx context.Context, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	n := s.calls.Add(1)
	if s.echo == nil {
		return &testv1.EchoResponse{Id: r.GetId()}, nil
	}
	return s.echo(ctx, n, r)
}

func (s *server) Down(_ *testv1.DownRequest, ss grpc.ServerStreamingServer[testv1.EchoResponse]) error {
	return s.down(ss)
}

// target runs the server as kind says.
func (s *server) target(t testing.TB, kind string) upstream.Target {
	t.Helper()
	if kind == "inprocess" {
		return upstream.InProcess(upstream.Host{Name: "test", Logger: slog.New(slog.DiscardHandler), Register: func(r grpc.ServiceRegistrar) { testv1.RegisterTestServiceServer(r, s) }})
	}
	target, _ := s.remote(t)
	return target
}

func (s *server) remote(t testing.TB) (upstream.Target, *grpc.Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	testv1.RegisterTestServiceServer(srv, s)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	target, err := upstream.Remote(upstream.RemoteOptions{Target: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := target.Close()
		srv.Stop()
		if err := errors.Join(err, <-done); err != nil {
			t.Error(err)
		}
	})
	return target, srv
}

// travelling is a Conn to one service.
type travelling struct {
	edge
	*observer
	table   *schema.Catalogue
	metrics *prometheus.Registry
}

// resilient never refuses for load, and always has a retry to grant.
func resilient(t testing.TB, o resilience.Options) *resilience.Service {
	t.Helper()
	o.Name = testService
	if o.Budget == (resilience.BudgetOptions{}) {
		o.Budget.MinPerSecond = 1000
	}
	s, err := resilience.NewService(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func travel(t testing.TB, target upstream.Target, s upstream.ServiceOptions, more ...func(*upstream.Options)) *travelling {
	t.Helper()
	return travelBy(t, target, s, policy.Override{}, more...)
}

func travelBy(t testing.TB, target upstream.Target, s upstream.ServiceOptions, echo policy.Override, more ...func(*upstream.Options)) *travelling {
	t.Helper()
	if echo.Deadline == 0 {
		echo.Deadline = time.Minute
	}
	sd := testv1.File_sluice_test_v1_test_proto.Services().ByName("TestService")
	table, err := schema.New([]protoreflect.ServiceDescriptor{sd}, schema.Options{Defaults: policy.Defaults{Deadline: time.Minute, StreamIdle: time.Minute, StreamMaxAge: time.Minute, MaxRequestBytes: 1 << 20}, Overrides: map[string]policy.Override{testService + "/Echo": echo}, Linked: protoregistry.GlobalTypes})
	if err != nil {
		t.Fatal(err)
	}
	f := &travelling{observer: &observer{}, table: table, metrics: prometheus.NewRegistry()}
	o := upstream.Options{
		Catalogue: table, Targets: map[string]upstream.Target{testService: target}, Signer: signer{}, Logger: slog.New(slog.DiscardHandler),
		Observer: f.observer, Services: map[string]upstream.ServiceOptions{testService: s}, Metrics: f.metrics,
	}
	for _, m := range more {
		m(&o)
	}
	if f.Conn, err = upstream.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// admit admits a call of an edge.
func (f *travelling) admit(t testing.TB, method string, c *policy.Call) context.Context {
	t.Helper()
	c.Method = f.table.Method(service + method).Method
	if c.Principal == nil {
		c.Principal = policy.NewPrincipal("ada", "", nil, time.Time{})
	}
	if c.Headers == nil {
		c.Headers = http.Header{}.Values
	}
	ctx, err := policy.Chain{}.Admit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

func (f *travelling) echo(t testing.TB, c *policy.Call, id string) (*testv1.EchoResponse, error) {
	t.Helper()
	out := &testv1.EchoResponse{}
	err := f.Invoke(f.admit(t, "Echo", c), service+"Echo", &testv1.EchoRequest{Id: id}, out)
	return out, err
}

// counter is the sum of a metric's series with the label values.
func (f *travelling) counter(t testing.TB, name string, values ...string) (sum float64) {
	t.Helper()
	all, err := f.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			found := 0
			for _, l := range m.GetLabel() {
				for _, v := range values {
					if l.GetValue() == v {
						found++
					}
				}
			}
			if found >= len(values) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == policy.ErrorDomain {
			return info.GetReason()
		}
	}
	return ""
}

func retryAfter(err error) time.Duration {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// TestRetries: what may be tried again is, and nothing else, in this process and in
// another.
func TestRetries(t *testing.T) {
	asking := func(d time.Duration) error {
		st, err := status.New(codes.Unavailable, "x").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(d)})
		return errors.Join(err, st.Err())
	}
	always := func(err error) func(int32) error { return func(int32) error { return err } }
	until := func(n int32, err error) func(int32) error {
		return func(i int32) error {
			if i < n {
				return err
			}
			return nil
		}
	}
	unavailable := status.Error(codes.Unavailable, "x")
	for name, tc := range map[string]struct {
		fails    func(n int32) error
		override policy.Override
		budget   resilience.BudgetOptions
		want     codes.Code
		attempts int
	}{
		"at once":                   {fails: always(nil), attempts: 1},
		"the second":                {fails: until(2, unavailable), attempts: 2},
		"the third":                 {fails: until(3, unavailable), attempts: 3},
		"never":                     {fails: always(unavailable), want: codes.Unavailable, attempts: 3},
		"as often as the rule says": {fails: until(6, unavailable), override: policy.Override{Retry: &policyv1.Retry{MaxAttempts: 6, Backoff: durationpb.New(time.Millisecond)}}, attempts: 6},
		"not by the rule":           {fails: always(unavailable), override: policy.Override{Retry: &policyv1.Retry{MaxAttempts: 1}}, want: codes.Unavailable, attempts: 1},
		"no such code":              {fails: always(status.Error(codes.Internal, "x")), want: codes.Internal, attempts: 1},
		"a code of the rule's":      {fails: until(2, status.Error(codes.Aborted, "x")), override: policy.Override{Retry: &policyv1.Retry{Codes: []string{"ABORTED"}}}, attempts: 2},
		"no longer the rule's":      {fails: always(unavailable), override: policy.Override{Retry: &policyv1.Retry{Codes: []string{"ABORTED"}}}, want: codes.Unavailable, attempts: 1},
		"a refusal":                 {fails: always(status.Error(codes.NotFound, "x")), want: codes.NotFound, attempts: 1},
		"no budget":                 {fails: always(unavailable), budget: resilience.BudgetOptions{Off: true}, want: codes.Unavailable, attempts: 1},
		"the service asks to wait":  {fails: always(asking(time.Hour)), want: codes.Unavailable, attempts: 1},
		"it asks for a moment":      {fails: until(2, asking(time.Millisecond)), attempts: 2},
		"no time":                   {fails: always(asking(200 * time.Millisecond)), override: policy.Override{Deadline: 150 * time.Millisecond}, want: codes.Unavailable, attempts: 1},
	} {
		for _, kind := range kinds {
			t.Run(name+"/"+kind, func(t *testing.T) {
				s := &server{}
				s.echo = func(_ context.Context, n int32, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
					if err := tc.fails(n); err != nil {
						return nil, err
					}
					return &testv1.EchoResponse{Id: r.GetId()}, nil
				}
				f := travelBy(t, s.target(t, kind), upstream.ServiceOptions{Resilience: resilient(t, resilience.Options{Budget: tc.budget})}, tc.override)
				var call policy.Call
				out, err := f.echo(t, &call, "ada")
				code(t, err, tc.want)
				if tc.want == codes.OK && out.GetId() != "ada" {
					t.Errorf("answer %v", out)
				}
				if call.Attempts != tc.attempts || int(s.calls.Load()) != tc.attempts {
					t.Errorf("%d attempts, %d calls, want %d", call.Attempts, s.calls.Load(), tc.attempts)
				}
				if len(f.done) != 1 || f.done[0] != tc.want {
					t.Errorf("counted %v", f.done)
				}
				if got := f.counter(t, "sluice_upstream_retries_total", "sent"); got != float64(tc.attempts-1) {
					t.Errorf("%v retries counted", got)
				}
			})
		}
	}
}

// TestNothingIsOn: without options a call is sent once, whatever its rule allows.
func TestNothingIsOn(t *testing.T) {
	s := &server{echo: func(context.Context, int32, *testv1.EchoRequest) (*testv1.EchoResponse, error) {
		return nil, status.Error(codes.Unavailable, "x")
	}}
	f := travel(t, s.target(t, "inprocess"), upstream.ServiceOptions{}, func(o *upstream.Options) { o.Services = nil })
	_, err := f.echo(t, &policy.Call{}, "ada")
	code(t, err, codes.Unavailable)
	if s.calls.Load() != 1 {
		t.Errorf("%d calls", s.calls.Load())
	}
}

// TestRequestOutlivesAttempts: each attempt is sent the same bytes, and the answer of a
// failed one leaves nothing behind; both for a bound of single attempts.
func TestRequestOutlivesAttempts(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			free := make(chan struct{})
			s := &server{}
			var seen sync.Map
			s.echo = func(ctx context.Context, n int32, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
				seen.Store(n, r.GetId())
				if n < 3 {
					_ = grpc.SetHeader(ctx, metadata.Pairs("of-a-failure", "1"))
					<-free
				}
				return &testv1.EchoResponse{Id: r.GetId()}, nil
			}
			f := travelBy(t, s.target(t, kind), upstream.ServiceOptions{Resilience: resilient(t, resilience.Options{})},
				policy.Override{Retry: &policyv1.Retry{AttemptTimeout: durationpb.New(100 * time.Millisecond), Backoff: durationpb.New(time.Millisecond)}})
			defer close(free)
			call := policy.Call{}
			in, err := proto.Marshal(&testv1.EchoRequest{Id: "ada"})
			if err != nil {
				t.Fatal(err)
			}
			out, header := wire.Frame{}, metadata.MD{}
			code(t, f.Invoke(f.admit(t, "Echo", &call), service+"Echo", &wire.Frame{Data: in}, &out, &header), codes.OK)
			clear(in) // As an edge that gives the request's memory back.
			if call.Attempts != 3 || string(out.Data) != string(field(1, "ada")) || len(header["of-a-failure"]) != 0 {
				t.Errorf("%d attempts, %x, header %v", call.Attempts, out.Data, header)
			}
			seen.Range(func(n, id any) bool {
				if id != "ada" {
					t.Errorf("attempt %v was sent %q", n, id)
				}
				return true
			})
		})
	}
}

// TestBackendGoesAway: a server that is killed in the middle of a call is a 503, or is
// tried again where that is allowed; never a success, never a leak.
func TestBackendGoesAway(t *testing.T) {
	s := &server{}
	began := make(chan struct{}, 10)
	s.echo = func(ctx context.Context, _ int32, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
		began <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	target, srv := s.remote(t)
	f := travel(t, target, upstream.ServiceOptions{Resilience: resilient(t, resilience.Options{})})
	result := make(chan error, 1)
	var call policy.Call
	ctx := f.admit(t, "Echo", &call)
	go func() {
		result <- f.Invoke(ctx, service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{})
	}()
	<-began
	srv.Stop()
	err := <-result
	code(t, err, codes.Unavailable)
	if status.Convert(err).Message() != "the service is unavailable, try again" || call.Attempts < 2 {
		t.Errorf("%v after %d attempts", err, call.Attempts)
	}
}

// TestBreaker: failures of the service open the breaker, which then answers at once,
// with a reason and a time; a caller's own doing does not.
func TestBreaker(t *testing.T) {
	for _, tc := range []struct {
		name  string
		err   error
		opens bool
	}{
		{"unavailable", status.Error(codes.Unavailable, "x"), true},
		{"internal", status.Error(codes.Internal, "x"), true},
		{"unknown", errors.New("x"), true},
		{"data loss", status.Error(codes.DataLoss, "x"), true},
		{"too late by itself", status.Error(codes.DeadlineExceeded, "x"), true},
		{"not found", status.Error(codes.NotFound, "x"), false},
		{"invalid", status.Error(codes.InvalidArgument, "x"), false},
		{"a quota", status.Error(codes.ResourceExhausted, "x"), false},
	} {
		for _, kind := range kinds {
			t.Run(tc.name+"/"+kind, func(t *testing.T) {
				s := &server{echo: func(context.Context, int32, *testv1.EchoRequest) (*testv1.EchoResponse, error) { return nil, tc.err }}
				r := resilient(t, resilience.Options{Breaker: resilience.BreakerOptions{MinRequests: 5}})
				f := travelBy(t, s.target(t, kind), upstream.ServiceOptions{Resilience: r}, policy.Override{Retry: &policyv1.Retry{MaxAttempts: 1}})
				var err error
				var call policy.Call
				for range 10 {
					call = policy.Call{}
					_, err = f.echo(t, &call, "ada")
				}
				if open := r.States()[0].State == "open"; open != tc.opens {
					t.Fatalf("open: %v, want %v", open, tc.opens)
				}
				if !tc.opens {
					if s.calls.Load() != 10 {
						t.Errorf("%d calls", s.calls.Load())
					}
					return
				}
				code(t, err, codes.Unavailable)
				if s.calls.Load() != 5 || reason(err) != upstream.ReasonBreakerOpen || retryAfter(err) < time.Second || call.Breaker != "breaker" || call.Attempts != 0 {
					t.Errorf("%d calls, %q, after %v, breaker %q, attempts %d", s.calls.Load(), reason(err), retryAfter(err), call.Breaker, call.Attempts)
				}
				if len(f.done) != 5 {
					t.Errorf("%d calls counted as sent", len(f.done))
				}
			})
		}
	}
}

// TestWhoseTimeItWas: a service that is too late by its rule is overloaded; a caller
// that went away, or was in a hurry, says nothing of it.
func TestWhoseTimeItWas(t *testing.T) {
	for name, tc := range map[string]struct {
		rule   time.Duration
		caller func(context.Context) (context.Context, context.CancelFunc)
		opens  bool
	}{
		"the rule's": {rule: 10 * time.Millisecond, opens: true},
		"the caller's": {caller: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 10*time.Millisecond)
		}},
		"the caller went away": {caller: func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(10*time.Millisecond, cancel)
			return ctx, cancel
		}},
	} {
		for _, kind := range kinds {
			t.Run(name+"/"+kind, func(t *testing.T) {
				s := &server{echo: func(ctx context.Context, _ int32, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}}
				r := resilient(t, resilience.Options{Breaker: resilience.BreakerOptions{MinRequests: 3}})
				f := travelBy(t, s.target(t, kind), upstream.ServiceOptions{Resilience: r}, policy.Override{Deadline: tc.rule})
				for range 6 {
					ctx := f.admit(t, "Echo", &policy.Call{})
					if tc.caller != nil {
						var cancel context.CancelFunc
						ctx, cancel = tc.caller(ctx)
						defer cancel()
					}
					if err := f.Invoke(ctx, service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{}); err == nil {
						t.Fatal("answered")
					}
				}
				if open := r.States()[0].State == "open"; open != tc.opens {
					t.Errorf("open: %v, want %v", open, tc.opens)
				}
				if r.States()[0].InFlight != 0 {
					t.Errorf("%d still in flight", r.States()[0].InFlight)
				}
			})
		}
	}
}

// TestShedding: beyond the bound calls are refused at once, with a reason.
func TestShedding(t *testing.T) {
	hold, inside := make(chan struct{}), make(chan struct{}, 10)
	s := &server{echo: func(context.Context, int32, *testv1.EchoRequest) (*testv1.EchoResponse, error) {
		inside <- struct{}{}
		<-hold
		return &testv1.EchoResponse{}, nil
	}}
	r := resilient(t, resilience.Options{Concurrency: resilience.ConcurrencyOptions{Min: 2, Max: 2, Initial: 2}})
	f := travel(t, s.target(t, "inprocess"), upstream.ServiceOptions{Resilience: r}, func(o *upstream.Options) { o.Observer = nil })
	var group sync.WaitGroup
	for range 2 {
		ctx := f.admit(t, "Echo", &policy.Call{})
		group.Go(func() {
			if err := f.Invoke(ctx, service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{}); err != nil {
				t.Error(err)
			}
		})
		<-inside
	}
	call := policy.Call{}
	_, err := f.echo(t, &call, "ada")
	code(t, err, codes.Unavailable)
	if reason(err) != upstream.ReasonOverloaded || retryAfter(err) <= 0 || call.Breaker != "concurrency" {
		t.Errorf("%v, breaker %q", err, call.Breaker)
	}
	close(hold)
	group.Wait()
	if _, err := f.echo(t, &policy.Call{}, "ada"); err != nil {
		t.Error(err)
	}
}

// TestUnreadableAnswer: what an edge cannot read counts as a failure, in the metric and
// for the breaker; before it has read, nothing is counted.
func TestUnreadableAnswer(t *testing.T) {
	s := &server{}
	r := resilient(t, resilience.Options{Breaker: resilience.BreakerOptions{MinRequests: 2}})
	f := travel(t, s.target(t, "inprocess"), upstream.ServiceOptions{Resilience: r})
	for i, bad := range []error{nil, errors.New("no message"), errors.New("no message"), errors.New("no message")} {
		call, a := policy.Call{}, upstream.Answer{Reads: true}
		if err := f.Call(f.admit(t, "Echo", &call), &call, &wire.Frame{Data: field(1, "ada")}, &a); err != nil {
			t.Fatal(i, err)
		}
		if len(f.done) != i || r.States()[0].InFlight != 1 {
			t.Fatalf("counted %v, %d in flight", f.done, r.States()[0].InFlight)
		}
		a.Read(bad)
		a.Read(nil) // Too late.
		call.Done(bad)
		if len(f.done) != i+1 || (f.done[i] == codes.OK) != (bad == nil) {
			t.Fatalf("%d: counted %v", i, f.done)
		}
		if r.States()[0].State == "open" {
			if i < 1 {
				t.Fatal("open too early")
			}
			return
		}
	}
	t.Error("the breaker saw nothing")
}
