//go:build !linux

package listen

import "syscall"

// control sets nothing: only Linux has TCP_USER_TIMEOUT.
func control(string, string, syscall.RawConn) error { return nil }
