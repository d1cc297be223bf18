package discovery

import (
	"context"
	"net"
	"strings"
	"time"
)

// dialer has TCP ask whether the other machine is still there where nothing is said. A
// backend that vanished without a word (power, network) is so found within half a minute,
// even on a stream that is silent for hours, and idle connections are not forgotten by
// what translates addresses on the way. HTTP/2 pings would find it too, but servers that
// know nothing of us allow one in 5 minutes; of TCP's probes they hear nothing.
var dialer = net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 20 * time.Second, Interval: 2 * time.Second, Count: 3}}

// Dial connects to a backend's address: host:port, unix:path or unix-abstract:name.
func Dial(ctx context.Context, addr string) (net.Conn, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return dialer.DialContext(ctx, "unix", strings.TrimPrefix(path, "//"))
	}
	if name, ok := strings.CutPrefix(addr, "unix-abstract:"); ok {
		return dialer.DialContext(ctx, "unix", "@"+name)
	}
	return dialer.DialContext(ctx, "tcp", addr)
}
