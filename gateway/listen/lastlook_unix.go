//go:build unix

package listen

import "syscall"

// lastLook reads what the kernel has already received: a wait that runs out does
// not look again.
func (c *conn) lastLook(p []byte, late error) (int, error) {
	s, ok := c.Conn.(syscall.Conn)
	if !ok || len(p) == 0 {
		return 0, late
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return 0, late
	}
	n := 0
	if err := raw.Control(func(fd uintptr) { n, _ = syscall.Read(int(fd), p) }); err != nil || n <= 0 { //nolint:gosec // A descriptor is an int.
		return 0, late
	}
	return n, nil
}
