package listen

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// userTimeout is how long a peer may leave unread what was sent to it, also by
// keeping its window shut (TCP_USER_TIMEOUT, RFC 5482), whatever else it sends.
// grpc-go sets it by itself, but not through a connection that is wrapped.
const userTimeout = time.Minute

// control is net.ListenConfig.Control: accepted connections inherit the option.
func control(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout/time.Millisecond)) //nolint:gosec // A descriptor is an int.
	}); e != nil {
		return e
	}
	return err
}
