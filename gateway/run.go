package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/listen"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Addrs are the addresses that are listened on.
type Addrs struct{ HTTP, GRPC, Admin string }

// Addrs returns the addresses, once OnReady's function runs.
func (g *Gateway) Addrs() Addrs { return g.addrs }

// DataDir is where the gateway keeps its databases and keys.
func (g *Gateway) DataDir() string { return g.cfg.GetDataDir() }

// DevKey mints tokens for a gateway WithDemo; nil without.
func (g *Gateway) DevKey() *auth.DevKey { return g.devKey.Load() }

// Close releases what New took, for a gateway that is never run: Run does so by
// itself.
func (g *Gateway) Close() error { return g.close() }

// Handler is the REST edge, for programs that serve it themselves.
func (g *Gateway) Handler() http.Handler { return g }

// Run listens and serves until ctx ends, then drains: not ready first, then
// what is in flight is finished, within the configured grace (see ErrReplaced for
// when another process takes over). It returns nil after a drain, and closes the
// gateway in any case.
func (g *Gateway) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, g.close()) }()
	ls, err := g.listen(ctx)
	if err != nil {
		return err
	}
	s := &servers{ls: ls, http: g.httpServer(), admin: g.adminServer()}
	failed := make(chan error, 3)
	serve := func(f func() error) { go func() { failed <- served(f()) }() }
	serve(func() error { return s.http.Serve(listen.HTTP(ls.http, g.httpOptions())) })
	serve(func() error { return g.rpc.GRPC().Serve(ls.grpc) })
	serve(func() error {
		return s.admin.Serve(listen.HTTP(ls.admin, listen.HTTPOptions{HeadTimeout: s.admin.ReadHeaderTimeout}))
	})
	var following sync.WaitGroup
	defer following.Wait()
	follow, unfollow := context.WithCancel(ctx)
	defer unfollow()
	following.Go(func() { g.follow(follow) })
	if g.o.onReady != nil {
		g.o.onReady(g)
	}
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	g.drainAll(context.Cause(ctx), s)
	return errors.Join(err, s.admin.Close())
}

// servers are what serves while the gateway runs, and what they listen on.
type servers struct {
	ls          listeners
	http, admin *http.Server
}

// halt closes the sockets; connections that were made stay. The operators' stays
// open while this process is all there is.
func (s *servers) halt(replaced bool) {
	var all sync.WaitGroup
	all.Go(s.ls.http.Halt)
	all.Go(s.ls.grpc.Halt)
	if replaced {
		all.Go(s.ls.admin.Halt)
	}
	all.Wait()
}

func served(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (g *Gateway) httpServer() *http.Server {
	c := g.cfg.GetHttp()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // TLS is the listener's: see listen.HTTP.
	return &http.Server{
		Handler:                      g,
		DisableGeneralOptionsHandler: true, // net/http would answer `OPTIONS *` past every check and log.
		Protocols:                    protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: int(c.GetMaxConcurrentStreams()),
			SendPingTimeout:      time.Minute, // A peer that is gone without a word is noticed.
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return listen.ConnContext(httpedge.ConnContext(httpedge.CorkContext(ctx, c), c), c)
		},
		ConnState:         listen.State,
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelDebug), // Failed handshakes: anyone can cause them.
		ReadHeaderTimeout: c.GetReadHeaderTimeout().AsDuration(),
		IdleTimeout:       c.GetIdleTimeout().AsDuration(),
		WriteTimeout:      g.patience,
		MaxHeaderBytes:    int(c.GetMaxHeaderBytes()),
	}
}

func (g *Gateway) httpOptions() listen.HTTPOptions {
	o := listen.HTTPOptions{HeadTimeout: g.cfg.GetHttp().GetReadHeaderTimeout().AsDuration()}
	if g.httpTLS != nil {
		o.TLS = g.httpTLS.Config("h2", "http/1.1")
	}
	return o
}

func (g *Gateway) adminServer() *http.Server {
	return &http.Server{
		Handler: g.drain.last(g.admin), ConnContext: listen.ConnContext, ConnState: listen.State,
		ReadHeaderTimeout: 10 * time.Second,
	}
}

// TLS says whether the HTTP and the gRPC listener speak TLS.
func (g *Gateway) TLS() (http, grpc bool) { return g.httpTLS != nil, g.grpcTLS != nil }

// writeTimeout bounds an exchange that is no stream from its headers to its last
// byte: reading the body, the longest call, and 30s for the caller to read.
// Streams replace it by a bound on each part.
func (s *snapshot) writeTimeout() time.Duration {
	longest := time.Duration(0)
	for _, m := range s.catalogue.Methods() {
		longest = max(longest, m.Rule.Deadline)
	}
	return s.cfg.GetHttp().GetReadTimeout().AsDuration() + longest + 30*time.Second
}

// endStreams ends the streams of every snapshot that has some.
func (g *Gateway) endStreams() {
	for _, s := range g.livingSnapshots() {
		s.upstream.EndStreams()
		if s.proxy != nil {
			s.proxy.EndStreams()
		}
	}
}

// Routes lists every method with its routes, rule and target, and the routes to plain
// HTTP services.
func (g *Gateway) Routes() []admin.Route { return g.serving().listRoutes() }

func (s *snapshot) listRoutes() []admin.Route {
	var out []admin.Route
	bound := map[string]bool{}
	for _, b := range s.rest.Routes() {
		bound[b.Method.FullName] = true
		out = append(out, s.route(b.Verb, b.Template.String(), b.Method))
	}
	for _, m := range s.catalogue.Methods() {
		if !bound[m.FullName] {
			out = append(out, s.route("", "", m.Method))
		}
	}
	if s.proxy != nil {
		for _, r := range s.proxy.Routes() {
			out = append(out, s.route(r.Verbs, r.Path, r.Method))
		}
	}
	return out
}

func (s *snapshot) route(verb, template string, m *policy.Method) admin.Route {
	bound := m.Rule.Deadline
	if m.Streaming() {
		bound = m.Rule.StreamMaxAge
	}
	r := admin.Route{
		Verb: verb, Template: template, Method: m.FullName[1:],
		Require: m.Rule.Who(), Owner: m.Rule.OwnerText(),
		LimitClass: m.Rule.LimitClass, LimitCost: m.Rule.LimitCost,
		Deadline: bound.String(), Target: s.upstream.Target(m.FullName),
	}
	if m.Descriptor == nil { // A plain HTTP route's.
		r.Target = m.Service
	}
	s.describe(&r, m)
	return r
}
