package httpedge

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

type birthKey struct{}

// birth is when a connection was accepted, by what share of the maximum age, in
// thousandths, it closes earlier, and whose it is: net/http names its caller on
// every request, as text.
type birth struct {
	at     time.Time
	sooner time.Duration
	peer   atomic.Pointer[peer]
}

// peer is an address and the text it was read from.
type peer struct {
	text string
	addr netip.AddrPort
}

// ConnContext notes when a connection was accepted, for
// Options.MaxConnectionAge. It goes into http.Server.ConnContext.
func ConnContext(ctx context.Context, _ net.Conn) context.Context {
	now := time.Now()
	// Connections that came together must not come back together. The clock's last
	// digits are chance enough.
	return context.WithValue(ctx, birthKey{}, &birth{at: now, sooner: time.Duration(now.UnixNano() / 100 % 200)})
}

// birthOf returns the connection of a request; nil where nobody has noted it.
func birthOf(ctx context.Context) *birth {
	b, _ := ctx.Value(birthKey{}).(*birth)
	return b
}

// tooOld says whether the connection should be closed.
func (b *birth) tooOld(most time.Duration) bool {
	return b != nil && most > 0 && time.Since(b.at) >= most-most/1000*b.sooner
}

// from reads the address of a request, once for all of its connection.
func (b *birth) from(text string) netip.AddrPort {
	if b != nil {
		if p := b.peer.Load(); p != nil && p.text == text {
			return p.addr
		}
	}
	addr, _ := netip.ParseAddrPort(text) // None is the caller of a test, or of a socket without addresses.
	if b != nil {
		b.peer.Store(&peer{text, addr})
	}
	return addr
}
