package upstream

import (
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// TestOutcome: what calls say of their backend, and of their service, by code and by what
// grpc-go says.
func TestOutcome(t *testing.T) {
	type verdict = resilience.Outcome
	fails := map[codes.Code]verdict{
		codes.Unavailable: resilience.Failure, codes.Internal: resilience.Failure, codes.Unknown: resilience.Failure, codes.DataLoss: resilience.Failure,
		codes.DeadlineExceeded: resilience.Overload, codes.Canceled: resilience.Ignored, codes.ResourceExhausted: resilience.Ignored,
	}
	cases := map[*status.Status][2]verdict{} // by status; the second where the caller is in a hurry
	for c := codes.Code(1); c <= codes.Unauthenticated; c++ {
		v := [2]verdict{fails[c], fails[c]} // Success, for those that are not there.
		if v[0] == resilience.Overload {
			v[1] = resilience.Ignored
		}
		cases[status.New(c, "x")] = v
	}
	both := func(v verdict) [2]verdict { return [2]verdict{v, v} }
	for st, v := range map[*status.Status][2]verdict{
		status.New(codes.ResourceExhausted, "grpc: received message larger than max (5 vs. 4)"): both(resilience.Ignored), // the service, of a request
		tooLargeStatus(t): both(resilience.Ignored), // ours, of an answer
		status.New(codes.Internal, "header list size to send violates the maximum size (8192 bytes) set by server"):   both(resilience.Ignored),
		status.New(codes.Unknown, "unexpected HTTP status code received from server: 413 (Request Entity Too Large)"): both(resilience.Ignored),
		status.New(codes.Internal, "unexpected HTTP status code received from server: 400 (Bad Request)"):             both(resilience.Ignored),
		status.New(codes.PermissionDenied, "unexpected HTTP status code received from server: 403 (Forbidden)"):       both(resilience.Ignored),
		status.New(codes.Unavailable, "unexpected HTTP status code received from server: 429 (Too Many Requests)"):    both(resilience.Ignored),
		status.New(codes.Unavailable, "unexpected HTTP status code received from server: 502 (Bad Gateway)"):          both(resilience.Failure),
		status.New(codes.Unknown, "unexpected HTTP status code received from server: 500 (Internal Server Error)"):    both(resilience.Failure),
		status.New(codes.Unavailable, "stream terminated by RST_STREAM with error code: CANCEL"):                      {resilience.Failure, resilience.Ignored},
		status.New(codes.Unavailable, "stream terminated by RST_STREAM with error code: INTERNAL_ERROR"):              both(resilience.Failure),
		status.New(codes.Internal, "grpc: failed to unmarshal the received message: x"):                               both(resilience.Failure),
	} {
		cases[st] = v
	}
	for st, want := range cases {
		for i, shortened := range []bool{false, true} {
			if got := outcome(balancer.DoneInfo{Err: st.Err(), BytesSent: true}, shortened); got != want[i] {
				t.Errorf("backend: %v, deadline shortened %v: %v, want %v", st, shortened, got, want[i])
			}
			if got := tells(t.Context(), &policy.Call{Shortened: shortened}, st); got != want[i] {
				t.Errorf("service: %v, deadline shortened %v: %v, want %v", st, shortened, got, want[i])
			}
		}
	}
	if outcome(balancer.DoneInfo{BytesSent: true}, false) != resilience.Success || outcome(balancer.DoneInfo{}, false) != resilience.Ignored {
		t.Error("without an error")
	}
}

func tooLargeStatus(t *testing.T) *status.Status {
	t.Helper()
	st := status.Convert(tooLarge(MaxMessageBytes + 1))
	if !nonsense(st) || tooLargeRequest(st) {
		t.Errorf("an answer that is too large: %v", st)
	}
	return st
}

// TestAuthority: whom calls and certificates name.
func TestAuthority(t *testing.T) {
	for target, want := range map[string]string{
		"10.0.0.1:80": "10.0.0.1:80", "dns:///users:80": "users:80", "unix:/x": "localhost", "etcd:///team/users": "team/users", "consul:///users": "users",
	} {
		parsed, err := discovery.ParseTarget(target)
		if err != nil {
			t.Fatal(err)
		}
		if got := (&resolverBuilder{target: parsed}).OverrideAuthority(resolver.Target{}); got != want {
			t.Errorf("%s: %q", target, got)
		}
	}
	k := &known{name: "users"}
	if a := k.address(discovery.Backend{Addr: "10.0.0.1:80", ServerName: "users"}); a.ServerName != "" {
		t.Errorf("a name that all have: %+v", a)
	}
	if a := k.address(discovery.Backend{Addr: "unix:/x", ServerName: "localhost"}); a.ServerName != "localhost" {
		t.Errorf("a socket: %+v", a)
	}
	if a := k.address(discovery.Backend{Addr: "a.internal:80", ServerName: "a.internal"}); a.ServerName != "a.internal:80" {
		t.Errorf("a name of its own: %+v", a)
	}
}
