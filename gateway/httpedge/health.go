package httpedge

import (
	"fmt"
	"io"
	"net/http"

	"github.com/sluice-gateway/sluice/gateway/route"
)

// Health is a path that tells load balancers whether this gateway takes calls. It
// needs no credential, says nothing else, and means the same under every Host, also
// under none (RFC 9112, 3.2: a request of HTTP/1.0 may have none).
type Health struct {
	// Path is all of it, such as `/healthz`; empty means that there is none.
	Path string
	// Ready is nil while the gateway takes calls. It must be quick, and safe for
	// concurrent use.
	Ready func() error
}

// checkHealth refuses a health path that no request has. Whether something else is meant by
// it, who makes the server asks Mounts and the protocols that have paths.
func (s *Server) checkHealth() error {
	path := s.o.Health.Path
	if path == "" {
		return nil
	}
	if as, err := route.Normalize(path); err != nil || as != path {
		return fmt.Errorf("health path %q: no request has such a path", path)
	}
	return nil
}

// serveHealth answers a request of the health path.
func (x *Exchange) serveHealth(h *Health) {
	x.Observed.Route = h.Path
	switch x.Request.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		x.Options(healthMethods)
		return
	default:
		x.NotAllowed(healthMethods)
		return
	}
	code, text := http.StatusOK, "ready\n"
	if h.Ready() != nil {
		code, text = http.StatusServiceUnavailable, "not ready\n"
	}
	x.Header()["Content-Type"] = plainText
	x.WriteHeader(code)
	_, _ = io.WriteString(x, text) // A client that left needs no answer.
}

var (
	healthMethods = []string{http.MethodGet, http.MethodHead, http.MethodOptions}
	plainText     = []string{"text/plain; charset=utf-8"}
)
