package gateway

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/listen"
	"github.com/sluice-gateway/sluice/gateway/rpc"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/tlsfile"
)

// flushTimeout bounds the sending of the last spans.
const flushTimeout = 5 * time.Second

// Gateway is a built gateway: New makes it, Run runs it once. It has what lives as
// long as the process does: listeners, servers, metrics, traces. What a
// configuration says of requests is in its snapshot, which a reload replaces.
type Gateway struct {
	cfg    *configv1.Config // the first one: what is of the process does not change
	o      *options
	log    *slog.Logger
	level  *slog.LevelVar
	output *telemetry.Output // where log writes; nil with a logger that was given

	rpc   *rpc.Server
	admin http.Handler
	// patience is the server's bound on an exchange that is no stream.
	patience time.Duration
	metrics  *telemetry.Metrics
	tracers  trace.TracerProvider
	httpTLS  *tlsfile.ServerTLS // nil means plaintext
	grpcTLS  *tlsfile.ServerTLS
	devKey   atomic.Pointer[auth.DevKey]
	addrs    Addrs
	closers  []func() error

	started   time.Time
	recent    *telemetry.Recent
	parts     *parts
	inFlight  *limit.InFlight
	current   current
	openCalls *auth.OpenCalls
	signers   atomic.Pointer[[]*auth.Signer] // of living snapshots
	reload    reloading

	mu       sync.Mutex // of what follows
	living   []*snapshot
	retiring sync.WaitGroup
	drain    drain
}

// New builds a gateway from a complete configuration (config.Load). Whatever is
// wrong stops it here: a method without a rule, colliding routes, a target that
// cannot be parsed, a generated handler that calls another method than its
// route names, no issuer of tokens. Nothing listens yet.
func New(cfg *configv1.Config, opts ...Option) (*Gateway, error) {
	g := &Gateway{cfg: cfg, o: newOptions(opts), level: new(slog.LevelVar), parts: newParts(), started: time.Now(), recent: telemetry.NewRecent(recentErrors), inFlight: limit.NewInFlight()}
	if g.log = g.o.logger; g.log == nil {
		g.output = telemetry.NewOutput(os.Stderr)
		g.onClose(g.output.Close) // The last thing that is done.
		g.log = newLogger(g.level, g.output)
	}
	g.setLevel(cfg.GetLog().GetLevel())
	if err := g.build(context.Background()); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

// build makes what lives as long as the process, and the first snapshot.
func (g *Gateway) build(ctx context.Context) error {
	tracers, flush, err := telemetry.Tracing(ctx, "sluice", g.o.getenv)
	if err != nil {
		return err
	}
	g.tracers = tracers
	g.onClose(func() error {
		// A collector that hangs must not hold up the end: what it has not taken by
		// then is lost.
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		if err := flush(ctx); err != nil {
			g.log.Warn("not all traces could be sent", "error", err)
		}
		return nil
	})
	g.metrics = telemetry.NewMetrics()
	if err := g.metrics.Registry().Register(partMetrics{&g.current}); err != nil {
		return err
	}
	if g.openCalls, err = auth.NewOpenCalls(auth.OpenCallsOptions{
		Authenticator: func() *auth.Authenticator { return g.serving().authenticator }, Log: g.log, Metrics: g.metrics.Registry(),
	}); err != nil {
		return err
	}
	first, err := g.newSnapshot(ctx, g.cfg)
	if err != nil {
		return err
	}
	g.onClose(g.closeSnapshots)
	g.patience = first.patience
	g.swap(first)
	g.watchOpenCalls()
	if err := g.reload.start(g); err != nil {
		return err
	}
	if err := g.tls(); err != nil {
		return err
	}
	g.buildRPC(first)
	g.admin = admin.New(admin.Options{
		Ready: g.drain.ready, Metrics: g.metrics.Handler(), Routes: g.Routes, Addr: g.cfg.GetAdmin().GetAddr(), Usage: g.usage,
		Config: g.Status, State: g.state, Actions: g.actions(),
	})
	return nil
}

// watchOpenCalls looks after the credentials of streams until the gateway closes: while it
// drains, too.
func (g *Gateway) watchOpenCalls() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { g.openCalls.Run(ctx) })
	g.onClose(func() error {
		cancel()
		running.Wait()
		return nil
	})
}

// swap makes a snapshot the one that new requests get. The one before is closed
// when its last request has ended, which may be an hour from now.
func (g *Gateway) swap(s *snapshot) {
	next := newVersion(s)
	g.mu.Lock()
	g.living = append(slices.Clone(g.living), s)
	g.mu.Unlock()
	old := g.current.p.Swap(next)
	if g.rpc != nil { // The first snapshot is there before it.
		g.rpc.Offer(s.catalogue)
	}
	for _, f := range s.inForce {
		f()
	}
	if old == nil {
		return
	}
	g.retiring.Go(func() {
		old.retire()
		g.bury(old.snapshot)
	})
}

// bury closes a snapshot that nobody holds.
func (g *Gateway) bury(s *snapshot) {
	g.mu.Lock()
	g.living = slices.DeleteFunc(slices.Clone(g.living), func(have *snapshot) bool { return have == s })
	g.mu.Unlock()
	if err := s.close(); err != nil {
		g.log.Warn("what an earlier configuration used did not close cleanly", "error", err)
	}
}

func (g *Gateway) livingSnapshots() []*snapshot {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.living
}

// closeSnapshots ends the snapshots of a gateway that serves nobody any more. Those
// who still hold one would have had the whole grace to end.
func (g *Gateway) closeSnapshots() error {
	var errs []error
	if v := g.current.p.Load(); v != nil {
		errs = append(errs, v.snapshot.close())
	}
	for _, s := range g.livingSnapshots() {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// serving is the snapshot that new requests get, for who asks about it and calls
// nothing of it that closing would end.
func (g *Gateway) serving() *snapshot { return g.current.p.Load().snapshot }

// assertionKeys verify what any living snapshot signs.
func (g *Gateway) assertionKeys() []ed25519.PublicKey {
	all := *g.signers.Load()
	if len(all) == 1 {
		return all[0].PublicKeys()
	}
	var out []ed25519.PublicKey
	for _, s := range all {
		out = append(out, s.PublicKeys()...)
	}
	return out
}

// signerLives adds a signer, the newest first, and returns what takes it away.
func (g *Gateway) signerLives(s *auth.Signer) (gone func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := []*auth.Signer{s}
	if have := g.signers.Load(); have != nil {
		all = append(all, *have...)
	}
	g.signers.Store(&all)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		all := slices.DeleteFunc(slices.Clone(*g.signers.Load()), func(have *auth.Signer) bool { return have == s })
		g.signers.Store(&all)
	}
}

func (g *Gateway) buildRPC(s *snapshot) {
	c := g.cfg.GetGrpc()
	o := rpc.Options{
		Current: g.holdRPC, Catalogue: s.catalogue, Telemetry: s.rpc.Telemetry,
		Denied: g.metrics.Denied, Refused: g.metrics.Refused,
		Logger:     g.log,
		Reflection: c.GetReflection() || g.o.demo, MaxConcurrentStreams: c.GetMaxConcurrentStreams(), MaxMetadataBytes: c.GetMaxMetadataBytes(),
		IdleTimeout: c.GetIdleTimeout().AsDuration(), MaxConnectionAge: c.GetMaxConnectionAge().AsDuration(),
		MaxMessageBytes: int(c.GetMaxMessageBytes()), MaxCallTime: c.GetMaxCallTime().AsDuration(),
		// A client that checks health is for a moment without when its watch ends, so
		// that is when its connection does; the number of watches is bounded.
		HealthWatchTime: c.GetMaxConnectionAge().AsDuration(),
		Unary:           g.o.unary, Stream: g.o.stream,
	}
	if g.grpcTLS != nil {
		o.TLS = g.grpcTLS.Config("h2")
	}
	g.rpc = rpc.New(o)
}

// holdRPC gives the gRPC edge what a call keeps to its end.
func (g *Gateway) holdRPC() (*rpc.State, rpc.Releaser) {
	h := g.current.take()
	return h.of.snapshot.rpc, h
}

// ServeHTTP is the REST edge: of one snapshot, from the first byte to the last.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	listen.Settle(w, r)
	h := g.current.take()
	defer h.Release()
	s := h.of.snapshot
	if s.patience > g.patience {
		// The server's own bound is that of the first configuration.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.patience))
	}
	s.http.ServeHTTP(w, r)
}

func (g *Gateway) onClose(f func() error) { g.closers = append(g.closers, f) }

// close releases what build took, the last first.
func (g *Gateway) close() error {
	g.reload.stop()
	var errs []error
	for i := len(g.closers) - 1; i >= 0; i-- {
		errs = append(errs, g.closers[i]())
	}
	g.closers = nil
	return errors.Join(errs...)
}

// Logger is the gateway's, for the program that runs it: its lines stand among the
// gateway's own.
func (g *Gateway) Logger() *slog.Logger { return g.log }

// LogLevel is the level of the log.
func (g *Gateway) LogLevel() slog.Level { return g.level.Level() }

// SetLogLevel changes the level of the log that the configuration describes, until
// a reload changes log.level. A logger that WithLogger brought has a level of its
// own.
func (g *Gateway) SetLogLevel(l slog.Level) { g.level.Set(l) }

// setLevel takes over log.level.
func (g *Gateway) setLevel(name string) {
	level := slog.LevelInfo
	if level.UnmarshalText([]byte(name)) != nil {
		level = slog.LevelInfo
	}
	g.level.Set(level)
}

func newLogger(level slog.Leveler, w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}
