package rest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/route"
)

// Server serves the routes of google.api.http: an httpedge.Protocol.
type Server struct {
	o      Options
	index  route.Index[*Binding]
	routes []*Binding
	inputs inputs
}

// New captures the generated handlers and builds the route index. What is
// wrong with a service stops it: a handler that calls another method than its
// route names, two routes that collide.
func New(o Options) (*Server, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	s := &Server{o: o}
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
	for _, b := range s.routes {
		b.keeping = s.newKeeping(b)
	}
	return s, nil
}

// Routes returns every route, in the order of registration.
func (s *Server) Routes() []*Binding { return s.routes }

// Meant says which route a path of the gateway's own would take requests from.
func (s *Server) Meant(path string) (name string, ok bool) {
	for _, method := range s.index.Allowed(path) {
		b, _, _ := s.index.Lookup(method, path)
		return fmt.Sprintf("%s %s of %s", method, b.Template, b.Method.FullName[1:]), true
	}
	return "", false
}

// Verbs are the methods that some path takes, sorted, for httpedge.Options.Methods.
func (s *Server) Verbs() (verbs []string) {
	for _, b := range s.routes {
		verbs = append(verbs, b.Verb)
	}
	slices.Sort(verbs)
	return slices.Compact(verbs)
}

// PassedHeaders are those that rules let pass of services' metadata, for
// httpedge.Options.ExposedHeaders.
func (s *Server) PassedHeaders() (names []string) {
	for _, b := range s.routes {
		for _, name := range b.Method.Rule.Metadata.Response {
			names = append(names, http.CanonicalHeaderKey(name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Serve implements httpedge.Protocol. A path of a binding is the binding's under every
// method, whatever prefix it has in common with another protocol's route.
func (s *Server) Serve(ctx context.Context, h *httpedge.Exchange, path string) bool {
	if len(path) > 1 && path[len(path)-1] == '/' { // A variable would match the empty segment behind it.
		return false
	}
	b, params, ok := s.match(h.Request.Method, path)
	if !ok {
		allow := s.allowed(path)
		if len(allow) > 0 {
			h.NotAllowed(allow)
		}
		return len(allow) > 0
	}
	b.observe(h)
	if h.Request.Method == http.MethodOptions {
		h.Options(s.allowed(path))
		return true
	}
	x := &exchange{Exchange: h, server: s, binding: b}
	h.Ender = x
	if err := x.serve(x.carry(ctx), params); err != nil {
		x.Fail(err)
		return true
	}
	x.begin()
	return true
}

func (b *Binding) observe(h *httpedge.Exchange) {
	h.Call.Writes = b.Verb != http.MethodGet && b.Verb != http.MethodHead
	if b.Method.Streaming() {
		h.Roll()
	}
	h.Observed.Route, h.Observed.RPC, h.Observed.Series = b.Template.String(), b.Method.FullName[1:], b.series
}

// serve is the walk of a request: admit, read what it carries, hand on to the generated
// handler, which answers. An error is the answer instead.
func (x *exchange) serve(ctx context.Context, params route.Params) error {
	if err := x.CrossSite(); err != nil {
		return err //nolint:wrapcheck // It is a status.
	}
	ctx, err := x.Admit(ctx, x.binding.Method)
	if err != nil {
		return err //nolint:wrapcheck // It is a status.
	}
	if err := x.precondition(); err != nil { // As the last before the call itself (RFC 9110, 13.2.1).
		return err
	}
	ctx, done, err := x.bound(ctx)
	if err != nil {
		return err
	}
	defer done()
	inner, err := x.read(ctx, params)
	if err != nil {
		return err
	}
	x.binding.handler(x, inner, x.params)
	x.dropParams()
	return nil
}

// bound gives the call its end: the caller's timeout and, where the body is a
// stream, or one that nobody takes, cancel for what is wrong with it, or for a caller
// who leaves.
func (x *exchange) bound(ctx context.Context) (context.Context, func(), error) {
	ctx, stop, err := x.Timeout(ctx)
	if err != nil {
		return ctx, stop, err //nolint:wrapcheck // It is a status.
	}
	switch {
	case x.binding.body == bodyStream:
	case x.binding.body == bodyNone && x.Request.ContentLength != 0:
	default: // There is none, or it is read before the call.
		return ctx, stop, nil
	}
	ctx, x.cancel = context.WithCancelCause(ctx)
	x.WatchDeparture(x.cancel)
	return ctx, func() {
		x.cancel(nil)
		stop()
		if x.stream != nil {
			x.stream.End()
		}
	}, nil
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
	x.inner = *x.Request.WithContext(ctx) // It stands in the exchange: no allocation of its own.
	inner := &x.inner
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
