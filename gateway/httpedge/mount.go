package httpedge

import (
	"context"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Mounts are handlers for plain paths, such as the docs, as a Protocol. The first that
// has the path counts.
type Mounts []Mount

// Mount serves a path, and all below it when it ends in a slash. What it
// answers has the Content-Security-Policy of the API unless it sets its own.
type Mount struct {
	Path    string
	Handler http.Handler
}

// Find returns the mount of a path.
func (ms Mounts) Find(path string) (Mount, bool) {
	for _, m := range ms {
		if path == m.Path || (strings.HasSuffix(m.Path, "/") && strings.HasPrefix(path, m.Path)) {
			return m, true
		}
	}
	return Mount{}, false
}

// Serve implements Protocol. Plain handlers answer GET and HEAD; the rest, and their
// failures, are answered as everywhere.
func (ms Mounts) Serve(ctx context.Context, x *Exchange, path string) bool {
	m, ok := ms.Find(path)
	if !ok {
		return false
	}
	x.Observed.Route = m.Path
	allow := []string{http.MethodGet, http.MethodHead, http.MethodOptions}
	switch x.Request.Method {
	case http.MethodGet, http.MethodHead:
		delete(x.w.Header(), "Cache-Control") // It decides that itself.
		m.Handler.ServeHTTP(&mountWriter{Exchange: x}, x.Request.WithContext(ctx))
	case http.MethodOptions:
		x.Options(allow)
	default:
		x.NotAllowed(allow)
	}
	return true
}

// mountWriter answers a mount's failures as everywhere: what it writes itself behind
// their status is plain text, and is dropped.
type mountWriter struct {
	*Exchange
	failed bool
}

// WriteHeader implements http.ResponseWriter.
func (w *mountWriter) WriteHeader(code int) {
	if w.status == 0 && code >= 400 {
		w.failed = true
		w.Fail(status.Error(mountCode(code), "there is nothing here; /docs shows what there is"))
		return
	}
	w.Exchange.WriteHeader(code)
}

func (w *mountWriter) Write(b []byte) (int, error) {
	if w.failed {
		return len(b), nil
	}
	return w.Exchange.Write(b) //nolint:wrapcheck // It is the connection's.
}

func mountCode(httpCode int) codes.Code {
	if httpCode >= 500 {
		return codes.Internal
	}
	return codes.NotFound
}
