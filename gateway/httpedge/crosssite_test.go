package httpedge

import (
	"slices"
	"testing"
)

// A header that browsers send by themselves shows nothing.
func TestKeyHeaders(t *testing.T) {
	for header, want := range map[string][]string{
		"": {"Authorization"}, "x-api-key": {"Authorization", "X-Api-Key"}, "cookie": {"Authorization"}, "USER-AGENT": {"Authorization"}, "accept": {"Authorization"},
	} {
		if got := keyHeaders(header); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}
