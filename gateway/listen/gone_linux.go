package listen

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Gone says whether the peer has closed its side of the connection, or broken it. It
// looks past what the peer has sent before and nobody has read yet, which a reader
// cannot. Bytes for which the kernel has no more room hide an end that comes behind
// them.
func (c *conn) Gone() bool {
	s, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		ask := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}} //nolint:gosec // A descriptor is an int.
		_, err := unix.Poll(ask, 0)
		gone = err == nil && ask[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return gone || err != nil // It is closed on this side.
}
