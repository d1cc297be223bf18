package upstream

import (
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// NotSent says of what a remote Target returned that the call reached no backend: it
// may be tried again whatever its rule says.
func NotSent(err error) bool {
	st, ok := status.FromError(err)
	return ok && st.Code() == codes.Unavailable && strings.HasPrefix(st.Message(), noBackend)
}

// ConnectionLost says of what a remote Target returned that the connection ended while
// the call was on its way, as opposed to a backend that answered UNAVAILABLE: nobody
// knows how far it came. The texts are grpc-go's, of the pinned version; a test
// produces them. (A call that a backend's GOAWAY left out, grpc-go sends again itself.)
func ConnectionLost(err error) bool {
	st, ok := status.FromError(err)
	if !ok || st.Code() != codes.Unavailable {
		return false
	}
	for _, text := range []string{"error reading from server: ", "the connection is draining", "transport is closing", "closing transport due to: ", "connection error: desc = ", "keepalive ping failed"} {
		if strings.HasPrefix(st.Message(), text) {
			return true
		}
	}
	return false
}
