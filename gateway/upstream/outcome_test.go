package upstream

import (
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// TestOutcome: what calls say of their backend, by code.
func TestOutcome(t *testing.T) {
	fails := map[codes.Code]resilience.Outcome{
		codes.Unavailable: resilience.Failure, codes.Internal: resilience.Failure, codes.Unknown: resilience.Failure, codes.DataLoss: resilience.Failure,
		codes.DeadlineExceeded: resilience.Overload, codes.Canceled: resilience.Ignored, codes.ResourceExhausted: resilience.Ignored,
	}
	for c := codes.Code(1); c <= codes.Unauthenticated; c++ {
		want := fails[c] // Success, for all others.
		d := balancer.DoneInfo{Err: status.Error(c, "x"), BytesSent: true}
		if got := outcome(d); got != want {
			t.Errorf("%v: %v, want %v", c, got, want)
		}
		if want == resilience.Overload {
			want = resilience.Ignored
		}
		if got := outcomeCallers(d); got != want {
			t.Errorf("%v, in the caller's deadline: %v, want %v", c, got, want)
		}
	}
	if outcome(balancer.DoneInfo{BytesSent: true}) != resilience.Success || outcome(balancer.DoneInfo{}) != resilience.Ignored {
		t.Error("without an error")
	}
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
