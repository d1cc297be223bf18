//go:build !race

package rest

import (
	"testing"
)

// TestAllocations holds what a GET costs: grpc-gateway's runtime, the messages of
// the handler and the fake service, which parses what it gets, the header of the test;
// the exchange itself.
func TestAllocations(t *testing.T) {
	for target, most := range map[string]float64{"/test/v1/echo/e1": 32, "/test/v1/echo/e1?inner.number=5": 41} {
		if got := testing.AllocsPerRun(200, served(t, target)); got > most {
			t.Errorf("GET %s: %v allocations, want at most %v", target, got, most)
		}
	}
}
