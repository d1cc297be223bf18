//go:build !race

package request_test

import (
	"testing"

	"github.com/sluice-gateway/sluice/gateway/rest/request"
)

// TestAllocations: a request costs none beyond its own bytes, save the names that the mask
// of a PATCH has.
func TestAllocations(t *testing.T) {
	for name, tc := range benched {
		s := serve(t, tc.in, tc.pattern, tc.body, request.Options{})
		in, err := s.parts(tc.path, tc.query, tc.sent)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 0, 1024)
		got := testing.AllocsPerRun(200, func() {
			if _, err := s.Append(buf, in); err != nil {
				t.Fatal(err)
			}
		})
		if got > tc.most {
			t.Errorf("%s: %v allocations, more than %v", name, got, tc.most)
		}
	}
}
