// Package effort says how much work a test of chance does. `make test` runs every kind of
// case; `make test-long` sets SLUICE_LONG, and tries many more of each. Tests of all rooms
// use it.
package effort

import "os"

// Rounds is short, or long where SLUICE_LONG is set.
func Rounds(short, long int) int {
	if os.Getenv("SLUICE_LONG") != "" {
		return long
	}
	return short
}
