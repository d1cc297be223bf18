package upstream

import (
	"time"

	"google.golang.org/grpc/keepalive"
)

// KeepaliveOptions are the HTTP/2 pings on the connections to backends. Zero fields have
// their defaults, with which any gRPC server keeps the connection.
type KeepaliveOptions struct {
	// Time is for how long nothing must have come before a ping goes out: at least 10 s.
	// Default 5m20s.
	Time time.Duration
	// Timeout is how long the ping's answer may take and, on Linux, how long what was sent
	// may stay without TCP's acknowledgement (TCP_USER_TIMEOUT). Default 4 s.
	Timeout time.Duration
	// PermitWithoutStream pings when there are no calls, too.
	PermitWithoutStream bool
}

// Servers of gRPC allow a ping every 5 minutes while nothing is sent, and with the fourth
// that comes sooner they end the connection and its streams. pingTime is longer by enough
// that neither their clock nor a delay on the way makes one too soon, and shorter than the
// 350 s after which some load balancers drop a silent connection.
//
// Death is found without pings: calls that are under way by pingTimeout as TCP's own
// bound, what is silent by the probes of discovery.Dial. A ping is for what answers TCP
// and yet is dead: a process that hangs, or a proxy whose backend is gone.
const (
	pingTime    = 5*time.Minute + 20*time.Second
	pingTimeout = 4 * time.Second
)

func (o KeepaliveOptions) parameters() keepalive.ClientParameters {
	p := keepalive.ClientParameters{Time: pingTime, Timeout: pingTimeout, PermitWithoutStream: o.PermitWithoutStream}
	if o.Time > 0 {
		p.Time = o.Time
	}
	if o.Timeout > 0 {
		p.Timeout = o.Timeout
	}
	return p
}
