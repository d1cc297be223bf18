package policy_test

import (
	"net/http"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// TestHeader: each edge is asked in its own spelling, which makes no copy.
func TestHeader(t *testing.T) {
	for name, want := range map[string][2]string{
		"X-API-Key":        {"X-Api-Key", "x-api-key"},
		"RateLimit-Policy": {"Ratelimit-Policy", "ratelimit-policy"},
		"authorization":    {"Authorization", "authorization"},
	} {
		h := policy.NewHeader(name)
		rest, branch, grpc := h.On(policy.EdgeREST), h.On(policy.EdgeBranch), h.On(policy.EdgeGRPC)
		if rest != want[0] || branch != want[0] || grpc != want[1] {
			t.Errorf("%s: %s, %s, %s; want %v", name, rest, branch, grpc, want)
		}
		header, md := http.Header{rest: {"v"}}, metadata.MD{grpc: {"v"}}
		if n := testing.AllocsPerRun(100, func() {
			if header.Get(rest) != "v" {
				t.Error("not found over REST")
			}
		}); n != 0 {
			t.Errorf("%s over REST: %v allocations", name, n)
		}
		if n := testing.AllocsPerRun(100, func() { _ = md.Get(grpc) }); n != 0 {
			t.Errorf("%s over gRPC: %v allocations", name, n)
		}
	}
}
