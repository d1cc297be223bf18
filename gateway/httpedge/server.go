package httpedge

import (
	"context"
	"net/http"
	"slices"

	"go.opentelemetry.io/otel/propagation"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
)

// Server is the HTTP edge as an http.Handler.
type Server struct {
	o       Options
	handler http.Handler
	hsts    []string
	cors    *crossOrigin
	// sameOrigin and keys are for CrossSite.
	sameOrigin http.CrossOriginProtection
	keys       []string
	// methods are those of all paths, for `OPTIONS *`.
	methods []string
}

// New checks the options.
func New(o Options) (*Server, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	s := &Server{o: o, hsts: hsts(o.HSTSMaxAge), keys: keyHeaders(o.APIKeyHeader)}
	if err := s.checkHealth(); err != nil {
		return nil, err
	}
	s.methods = append([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, o.Methods...)
	slices.Sort(s.methods)
	s.methods = slices.Compact(s.methods)
	var err error
	if s.cors, err = newCrossOrigin(o.CORS, s.methods, o.ExposedHeaders); err != nil {
		return nil, err
	}
	s.handler = http.HandlerFunc(s.serve)
	for i := len(o.Middlewares) - 1; i >= 0; i-- {
		s.handler = o.Middlewares[i](s.handler)
	}
	return s, nil
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !r.ProtoAtLeast(1, 1) {
		s.serveHTTP10(w, r)
		return
	}
	s.handler.ServeHTTP(w, r)
}

// serve is the walk of a request: observe, let it in, look where it goes, and ask the
// protocols whose it is.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	x, ctx := s.begin(w, r)
	defer x.end(ctx)
	defer x.recover(ctx)

	ctx, err := s.arrive(ctx, x)
	if err != nil {
		x.Fail(err)
		return
	}
	path, err := x.inspect()
	if err != nil {
		x.Fail(err)
		return
	}
	switch path {
	case asterisk:
		x.Options(s.methods)
		return
	case s.o.Health.Path:
		x.serveHealth(&s.o.Health)
		return
	}
	for _, p := range s.o.Protocols {
		if p.Serve(ctx, x, path) {
			return
		}
	}
	x.Fail(noSuchPath())
}

func (s *Server) begin(w http.ResponseWriter, r *http.Request) (*Exchange, context.Context) {
	x := &Exchange{server: s, Request: r, reply: reply{w: w}}
	o := &x.Observed
	ctx := s.o.Telemetry.BeginIn(r.Context(), o, policy.EdgeREST, propagation.HeaderCarrier(r.Header))
	o.ID = telemetry.RequestID(r.Header.Get("X-Request-Id"))
	o.Method = r.Method
	conn := birthOf(r.Context())
	o.Peer = conn.from(r.RemoteAddr)
	o.Client = o.Peer.Addr().Unmap().WithZone("")
	o.Call = &x.Call
	x.setHeaders(conn.tooOld(s.o.MaxConnectionAge))
	s.cors.mark(x)
	x.limitReadTime()
	return x, ctx
}
