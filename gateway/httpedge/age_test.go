package httpedge

import (
	"context"
	"net/netip"
	"testing"
	"time"
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

func TestTooOld(t *testing.T) {
	at := func(age, sooner time.Duration) context.Context {
		return context.WithValue(t.Context(), birthKey{}, &birth{at: time.Now().Add(-age), sooner: sooner})
	}
	for name, tc := range map[string]struct {
		ctx  context.Context
		want bool
	}{
		"young": {at(79*time.Minute, 199), false}, "early by chance": {at(81*time.Minute, 199), true}, "not early": {at(99*time.Minute, 0), false},
		"old": {at(100*time.Minute, 0), true}, "no connection": {t.Context(), false},
	} {
		if got := birthOf(tc.ctx).tooOld(100 * time.Minute); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if birthOf(at(time.Hour, 0)).tooOld(0) {
		t.Error("too old without a bound")
	}
	before := time.Now()
	b := ConnContext(t.Context(), nil).Value(birthKey{}).(*birth)
	if b.at.Before(before) || b.at.After(time.Now()) || b.sooner < 0 || b.sooner >= 200 {
		t.Errorf("%+v", b)
	}
}
