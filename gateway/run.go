package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/rest"
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
// what is in flight is finished, within the configured grace. It returns nil
// after a drain, and closes the gateway in any case.
func (g *Gateway) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, g.close()) }()
	ls, err := g.listen(ctx)
	if err != nil {
		return err
	}
	httpServer, adminServer := g.httpServer(), &http.Server{Handler: g.admin, ReadHeaderTimeout: 10 * time.Second}
	group, failed := errgroup.WithContext(ctx)
	group.Go(func() error {
		if g.httpTLS != nil {
			return served(httpServer.ServeTLS(ls.http, "", ""))
		}
		return served(httpServer.Serve(ls.http))
	})
	group.Go(func() error { return g.rpc.GRPC().Serve(ls.grpc) })
	group.Go(func() error { return served(adminServer.Serve(ls.admin)) })
	group.Go(func() error { return g.follow(failed) })
	if g.o.onReady != nil {
		g.o.onReady(g)
	}
	group.Go(func() error {
		<-failed.Done()
		g.drain(httpServer)
		return adminServer.Close()
	})
	return group.Wait()
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
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler:                      g,
		DisableGeneralOptionsHandler: true, // net/http would answer `OPTIONS *` past every check and log.
		Protocols:                    protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: int(c.GetMaxConcurrentStreams()),
			SendPingTimeout:      time.Minute, // A peer that is gone without a word is noticed.
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return rest.ConnContext(rest.CorkContext(ctx, c), c)
		},
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelDebug), // Failed handshakes: anyone can cause them.
		ReadHeaderTimeout: c.GetReadHeaderTimeout().AsDuration(),
		IdleTimeout:       c.GetIdleTimeout().AsDuration(),
		WriteTimeout:      g.patience,
		MaxHeaderBytes:    int(c.GetMaxHeaderBytes()),
	}
	if g.httpTLS != nil {
		srv.TLSConfig = g.httpTLS.Config("h2", "http/1.1")
	}
	return srv
}

// TLS says whether the HTTP and the gRPC listener speak TLS.
func (g *Gateway) TLS() (http, grpc bool) { return g.httpTLS != nil, g.grpcTLS != nil }

// writeTimeout bounds an exchange that is no stream from its headers to its last
// byte: reading the body, the longest call, and 30s for the caller to read.
// Streams replace it by a bound on each part.
func (s *snapshot) writeTimeout() time.Duration {
	longest := time.Duration(0)
	for _, m := range s.methods.Methods() {
		longest = max(longest, m.Rule.Deadline)
	}
	return s.cfg.GetHttp().GetReadTimeout().AsDuration() + longest + 30*time.Second
}

// drain ends serving without dropping what is in flight.
func (g *Gateway) drain(httpServer *http.Server) {
	g.draining.Store(true)
	g.reload.stop() // What is ready now goes away: nothing else takes its place.
	shutdown := g.serving().cfg.GetShutdown()
	g.rpc.Drain()
	if d := shutdown.GetNotReadyFor().AsDuration(); d > 0 {
		time.Sleep(d)
	}
	grace := shutdown.GetGrace().AsDuration()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	// Half the grace is for streams to end by themselves; an order can be watched
	// for an hour.
	streams := time.AfterFunc(grace/2, g.endStreams)
	defer streams.Stop()
	var both errgroup.Group
	both.Go(func() error {
		if httpServer.Shutdown(ctx) != nil {
			return httpServer.Close()
		}
		return nil
	})
	both.Go(func() error {
		// GracefulStop has no deadline of its own.
		stop := context.AfterFunc(ctx, g.rpc.GRPC().Stop)
		g.rpc.GRPC().GracefulStop()
		stop()
		return nil
	})
	if err := both.Wait(); err != nil {
		g.log.Warn("the HTTP listener did not close cleanly", "error", err)
	}
}

// endStreams ends the streams of every snapshot that has some.
func (g *Gateway) endStreams() {
	for _, s := range g.livingSnapshots() {
		s.upstream.EndStreams()
	}
}

func (g *Gateway) ready() error {
	if g.draining.Load() {
		return errors.New("draining")
	}
	return nil
}

// Routes lists every method with its routes, rule and target.
func (g *Gateway) Routes() []admin.Route { return g.serving().listRoutes() }

func (s *snapshot) listRoutes() []admin.Route {
	var out []admin.Route
	bound := map[string]bool{}
	for _, b := range s.rest.Routes() {
		bound[b.Method.FullName] = true
		out = append(out, s.route(b.Verb, b.Template.String(), b.Method))
	}
	for _, m := range s.methods.Methods() {
		if !bound[m.FullName] {
			out = append(out, s.route("", "", m))
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
	s.describe(&r)
	return r
}
