package policy_test

import (
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// TestAccountsAreDistinct: whatever spaces a subject has, no two callers share a budget.
func TestAccountsAreDistinct(t *testing.T) {
	seen := map[string][2]string{}
	for _, who := range [][2]string{{"", "a"}, {"", "a b"}, {"a", "b"}, {"a", "b c"}, {"", "a b c"}, {"", "b"}, {"a", "a b"}, {"b", "c"}, {"", "b c"}} {
		p := policy.NewPrincipal(who[1], "i", nil, time.Time{})
		p.Tenant = who[0]
		if other, twice := seen[p.Account()]; twice {
			t.Errorf("%q and %q are both %q", who, other, p.Account())
		}
		seen[p.Account()] = who
	}
	if a := policy.NewPrincipal("ada", "i", nil, time.Time{}).Account(); a != "ada" {
		t.Errorf("ada's account is %q", a)
	}
}
