package rest

import (
	"net/netip"
	"testing"
)

// TestPeer: the address of a connection is read once, and what a request says of it
// always counts: a middleware may put another in its place.
func TestPeer(t *testing.T) {
	noted := birthOf(ConnContext(t.Context(), nil))
	for name, conn := range map[string]*birth{"noted": noted, "not noted": birthOf(t.Context())} {
		for range 2 {
			for _, text := range []string{"192.0.2.1:4711", "192.0.2.1:4711", "[2001:db8::1%eth0]:1", "", "@", "192.0.2.2:4711"} {
				want, _ := netip.ParseAddrPort(text)
				if got := conn.from(text); got != want {
					t.Errorf("%s, %q: %v", name, text, got)
				}
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() { noted.from("192.0.2.2:4711") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
