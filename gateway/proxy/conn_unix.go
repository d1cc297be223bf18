//go:build unix

package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

func (c *conn) openRaw() {
	if s, ok := c.Conn.(syscall.Conn); ok {
		c.raw, _ = s.SyscallConn()
		c.once = c.readOnce
	}
}

// readRaw reads under the lock, once there is something.
func (c *conn) readRaw(p []byte) (int, error) {
	c.into = p
	err := c.raw.Read(c.once)
	c.into = nil
	if err != nil { // A deadline, or it was closed here.
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.arrived(nil, err)
	}
	return c.n, c.err
}

// readOnce reads what has come; false means that nothing has.
func (c *conn) readOnce(fd uintptr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		n, err := syscall.Read(int(fd), c.into) //nolint:gosec // A descriptor is an int.
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return false
		case err != nil:
			err = &net.OpError{Op: "read", Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("read", err)}
		case n == 0 && len(c.into) > 0:
			err = io.EOF
		}
		c.n, c.err = c.arrived(c.into[:max(n, 0)], err)
		return true
	}
}

// silent says whether the kernel has neither bytes nor an end for the reader.
func (c *conn) silent() bool {
	if c.raw == nil {
		return true
	}
	nothing := false
	err := c.raw.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT) //nolint:gosec // A descriptor is an int.
		nothing = errors.Is(err, syscall.EAGAIN)
	})
	return err == nil && nothing
}
