package rest

import (
	"context"
	"net"
	"time"
)

type birthKey struct{}

// birth is when a connection was accepted, and by what share of the maximum
// age, in thousandths, it closes earlier.
type birth struct {
	at     time.Time
	sooner time.Duration
}

// ConnContext notes when a connection was accepted, for
// Options.MaxConnectionAge. It goes into http.Server.ConnContext.
func ConnContext(ctx context.Context, _ net.Conn) context.Context {
	now := time.Now()
	// Connections that came together must not come back together. The clock's last
	// digits are chance enough.
	return context.WithValue(ctx, birthKey{}, &birth{at: now, sooner: time.Duration(now.UnixNano() / 100 % 200)})
}

// tooOld says whether the connection of a request should be closed.
func tooOld(ctx context.Context, most time.Duration) bool {
	if most <= 0 {
		return false
	}
	b, _ := ctx.Value(birthKey{}).(*birth)
	return b != nil && time.Since(b.at) >= most-most/1000*b.sooner
}
