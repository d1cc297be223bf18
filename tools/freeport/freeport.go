// Package freeport picks addresses for servers that tests start as processes and that
// cannot choose a port of their own. It knows nobody; tools/etcdtest, redistest, tools/cluster,
// tools/bench and tools/e2e use it.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Outside of these, systems choose ports by themselves, for listeners on port 0 and for each
// connection that somebody dials (32768 and above on Linux, 49152 and above elsewhere). A port
// from there may be gone before the process that it was picked for has started.
const first, last = 10_000, 32_000

// Addrs returns n different addresses of 127.0.0.1 on which nobody listens. Several test
// programs pick at once: each begins somewhere else, so that two seldom meet.
func Addrs(n int) ([]string, error) {
	addrs := make([]string, 0, n)
	port := first + rand.IntN(last-first) //nolint:gosec // Chance, not secrecy.
	for range last - first {
		if len(addrs) == n {
			return addrs, nil
		}
		port++
		if port >= last {
			port = first
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		l, err := net.Listen("tcp", addr) //nolint:noctx // immediate
		if err != nil {
			continue // Somebody has it.
		}
		if err := l.Close(); err != nil {
			return nil, fmt.Errorf("giving a port back: %w", err)
		}
		addrs = append(addrs, addr)
	}
	if len(addrs) == n {
		return addrs, nil
	}
	return nil, fmt.Errorf("of %d free ports between %d and %d there are %d", n, first, last, len(addrs))
}
