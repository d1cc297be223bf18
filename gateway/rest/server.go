package rest

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/propagation"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/route"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
)

// Server is the HTTP edge as an http.Handler.
type Server struct {
	o       Options
	index   route.Index[*Binding]
	routes  []*Binding
	mounts  []Mount
	handler http.Handler
	inputs  inputs
	// compressor is nil where compression is off.
	compressor *compressor
	hsts       []string
	cors       *crossOrigin
	// sameOrigin and keys are for crossSite.
	sameOrigin http.CrossOriginProtection
	keys       []string
	// methods are those of all routes, for `OPTIONS *`.
	methods []string
}

// New captures the generated handlers and builds the route index. What is
// wrong with a service stops it: a handler that calls another method than its
// route names, two routes that collide.
func New(o Options) (*Server, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	s := &Server{o: o, mounts: o.Mounts, hsts: hsts(o.HSTSMaxAge), keys: keyHeaders(o.APIKeyHeader)}
	for _, svc := range o.Services {
		bound, err := s.capture(svc)
		if err != nil {
			return nil, err
		}
		for _, b := range bound {
			if err := s.index.Add(b.Verb, b.Template, b); err != nil {
				return nil, err
			}
		}
		s.routes = append(s.routes, bound...)
	}
	if err := s.checkHealth(); err != nil {
		return nil, err
	}
	s.methods = s.allMethods()
	var err error
	if s.compressor, err = newCompressor(o.Compression); err != nil {
		return nil, err
	}
	for _, b := range s.routes {
		b.keeping = s.newKeeping(b)
	}
	if s.cors, err = newCrossOrigin(o.CORS, s.methods, s.passedHeaders()); err != nil {
		return nil, err
	}
	s.handler = http.HandlerFunc(s.serve)
	for i := len(o.Middlewares) - 1; i >= 0; i-- {
		s.handler = o.Middlewares[i](s.handler)
	}
	return s, nil
}

// Routes returns every route, in the order of registration.
func (s *Server) Routes() []*Binding { return s.routes }

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !r.ProtoAtLeast(1, 1) {
		s.serveHTTP10(w, r)
		return
	}
	s.handler.ServeHTTP(w, r)
}

// allMethods are the methods that some path takes.
func (s *Server) allMethods() []string {
	methods := []string{http.MethodGet, http.MethodHead, http.MethodOptions}
	for _, b := range s.routes {
		methods = append(methods, b.Verb)
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}

// passedHeaders are those that rules let pass of services' metadata.
func (s *Server) passedHeaders() (names []string) {
	for _, b := range s.routes {
		for _, name := range b.Method.Rule.Metadata.Response {
			names = append(names, http.CanonicalHeaderKey(name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// serve is the walk of a request: observe, let it in, find the route, admit,
// read what it carries, hand on to the generated handler.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	x, ctx := s.begin(w, r)
	defer x.end(ctx)
	defer x.recover(ctx)

	ctx, err := s.arrive(ctx, x)
	if err != nil {
		x.fail(err)
		return
	}
	path, err := x.inspect()
	if err != nil {
		x.fail(err)
		return
	}
	if path == asterisk {
		x.options(s.methods)
		return
	}
	if path == s.o.Health.Path {
		x.serveHealth(&s.o.Health)
		return
	}
	if s.servePlain(ctx, x, path, HTTPWithHost) {
		return
	}
	if m, ok := s.mount(path); ok {
		x.serveMount(ctx, m)
		return
	}
	b, params, ok := s.find(r.Method, path)
	if !ok {
		s.unmatched(ctx, x, path)
		return
	}
	x.bind(b)
	if r.Method == http.MethodOptions {
		x.options(s.allowed(path))
		return
	}
	s.call(ctx, x, params)
}

// call is the rest of the walk, for a request that names a method.
func (s *Server) call(ctx context.Context, x *exchange, params route.Params) {
	if err := s.crossSite(x); err != nil {
		x.fail(err)
		return
	}
	ctx, err := s.admit(ctx, x)
	if err != nil {
		x.fail(err)
		return
	}
	if err := x.precondition(); err != nil { // As the last before the call itself (RFC 9110, 13.2.1).
		x.fail(err)
		return
	}
	ctx, done, err := x.bound(ctx)
	if err != nil {
		x.fail(err)
		return
	}
	defer done()
	inner, err := x.read(ctx, params)
	if err != nil {
		x.fail(err)
		return
	}
	x.binding.handler(x, inner, x.params)
	x.dropParams()
}

func (s *Server) begin(w http.ResponseWriter, r *http.Request) (*exchange, context.Context) {
	x := &exchange{server: s, w: w, r: r}
	o := &x.observed
	ctx := s.o.Telemetry.BeginIn(r.Context(), o, policy.EdgeREST, propagation.HeaderCarrier(r.Header))
	o.ID = telemetry.RequestID(r.Header.Get("X-Request-Id"))
	o.Method = r.Method
	conn := birthOf(r.Context())
	o.Peer = conn.from(r.RemoteAddr)
	o.Client = o.Peer.Addr().Unmap().WithZone("")
	o.Call = &x.call
	x.setHeaders(conn.tooOld(s.o.MaxConnectionAge))
	s.cors.mark(x)
	x.limitReadTime()
	return x, x.carry(ctx)
}

func (s *Server) mount(path string) (Mount, bool) {
	for _, m := range s.mounts {
		if path == m.Path || (strings.HasSuffix(m.Path, "/") && strings.HasPrefix(path, m.Path)) {
			return m, true
		}
	}
	return Mount{}, false
}

// find is match, for a path that may end in a slash: a variable would match the
// empty segment behind it.
func (s *Server) find(method, path string) (*Binding, route.Params, bool) {
	if len(path) > 1 && path[len(path)-1] == '/' {
		return nil, route.Params{}, false
	}
	return s.match(method, path)
}

// match finds the binding; HEAD is served by GET's, OPTIONS by any of the path.
func (s *Server) match(method, path string) (*Binding, route.Params, bool) {
	switch method {
	case http.MethodHead:
		b, params, ok := s.index.Lookup(http.MethodGet, path)
		if ok && b.Method.Streaming() { // Its headers cannot be had without its messages.
			return nil, route.Params{}, false
		}
		return b, params, ok
	case http.MethodOptions:
		for _, m := range s.index.Allowed(path) {
			return s.index.Lookup(m, path)
		}
	}
	return s.index.Lookup(method, path)
}

// allowed is the Allow header of a path.
func (s *Server) allowed(path string) []string {
	methods := s.index.Allowed(path)
	if len(methods) == 0 {
		return nil
	}
	out := make([]string, 0, len(methods)+2)
	for _, m := range methods {
		out = append(out, m)
		if m == http.MethodGet {
			if b, _, ok := s.index.Lookup(m, path); ok && !b.Method.Streaming() {
				out = append(out, http.MethodHead)
			}
		}
	}
	return append(out, http.MethodOptions)
}

// unmatched: a path of an RPC is the RPC's under every method, whatever prefix it
// has in common with a plain HTTP route.
func (s *Server) unmatched(ctx context.Context, x *exchange, path string) {
	if slash := len(path) > 1 && path[len(path)-1] == '/'; !slash {
		if allow := s.allowed(path); len(allow) > 0 {
			x.notAllowed(allow)
			return
		}
	}
	if s.servePlain(ctx, x, path, HTTPWithoutHost) {
		return
	}
	x.fail(noSuchPath())
}

// read gives the generated handler a request of its own: the body and the
// query checked, and no header of the caller's, for what handlers make of
// headers (metadata, deadlines) is decided here.
func (x *exchange) read(ctx context.Context, params route.Params) (*http.Request, error) {
	x.takeParams(params)
	body, err := x.readBody()
	if err != nil {
		return nil, err
	}
	form, err := x.readQuery()
	if err != nil {
		return nil, err
	}
	if !x.binding.Method.Streaming() {
		ctx = x.handle(ctx)
	}
	inner := x.r.WithContext(ctx)
	inner.Header = nil // There is nothing in it, and nobody may write to it.
	inner.Host, inner.RemoteAddr = "", ""
	inner.Body = body
	inner.Form, inner.PostForm = form, noValues
	return inner, nil
}

// noValues is the form of every request that has none. Handlers parse a form only
// where it is nil, and then only read it (PopulateQueryParameters).
var noValues = url.Values{}

// paramMaps are the maps of path parameters that handlers look into.
var paramMaps = sync.Pool{New: func() any { return map[string]string{} }}

func (x *exchange) takeParams(params route.Params) {
	if params.Len() == 0 {
		return
	}
	x.params = paramMaps.Get().(map[string]string)
	params.Fill(x.params)
}

// dropParams gives the map back once the handler is done, which has read from it
// before its call. After a panic nobody does.
func (x *exchange) dropParams() {
	if x.params != nil {
		clear(x.params) // The values would keep the request's path in memory.
		paramMaps.Put(x.params)
		x.params = nil
	}
}
