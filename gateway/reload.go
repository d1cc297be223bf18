package gateway

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/config"
)

// reloadTime bounds a reload. What hangs longer has failed, and is cleaned up when
// it ends.
const reloadTime = 30 * time.Second

// ErrDraining is the error of a reload that came when the gateway was going away.
var ErrDraining = errors.New("the gateway is going away: its configuration does not change any more")

// Outcomes of reloads, as sluice_config_reloads_total names them.
const (
	reloadApplied   = "applied"
	reloadUnchanged = "unchanged" // the configuration is the one in use
	reloadInvalid   = "invalid"   // it could not be read, or is wrong in itself
	reloadFailed    = "failed"    // what it names could not be built
)

// reloading is the state of reloads.
type reloading struct {
	one     chan struct{} // has room for who is at it: one after another
	ctx     context.Context
	end     context.CancelFunc
	stopped atomic.Bool
	count   atomic.Int64     // of those that were applied
	wanted  *configv1.Config // as it was read, of the snapshot in use; guarded by one
	status  atomic.Pointer[admin.ConfigStatus]

	total   *prometheus.CounterVec
	success prometheus.Gauge
	at      prometheus.Gauge
	info    *prometheus.GaugeVec
}

// start notes the first configuration.
func (r *reloading) start(g *Gateway) error {
	r.one, r.wanted = make(chan struct{}, 1), g.cfg
	r.ctx, r.end = context.WithCancel(context.Background())
	r.total = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_config_reloads_total",
		Help: "Reloads of the configuration, by outcome: applied, unchanged, invalid or failed. After the last two the one before stays in use."}, []string{"outcome"})
	r.success = prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_config_last_reload_success",
		Help: "1 when the last reload of the configuration succeeded or there was none, 0 when the one before stays in use."})
	r.at = prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_config_loaded_timestamp_seconds",
		Help: "Unix time at which the configuration in use was loaded."})
	r.info = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_config_info",
		Help: "1, with the digest of the configuration in use."}, []string{"digest"})
	living := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_config_snapshots",
		Help: "Configurations that requests are being served by: the one in use, and those before it whose last requests have not ended."},
		func() float64 { return float64(len(g.livingSnapshots())) })
	for _, c := range []prometheus.Collector{r.total, r.success, r.at, r.info, living} {
		if err := g.metrics.Registry().Register(c); err != nil {
			return err
		}
	}
	for _, outcome := range []string{reloadApplied, reloadUnchanged, reloadInvalid, reloadFailed} {
		r.total.WithLabelValues(outcome)
	}
	r.loaded(g.cfg, nil)
	return nil
}

// loaded tells that a configuration is in use.
func (r *reloading) loaded(c *configv1.Config, restart []string) {
	now := time.Now()
	digest := config.Digest(c)
	r.success.Set(1)
	r.at.Set(float64(now.Unix()))
	r.info.Reset()
	r.info.WithLabelValues(digest).Set(1)
	next := &admin.ConfigStatus{Digest: digest, LoadedAt: now, NeedsRestart: restart, Config: config.Redacted(c)}
	if before := r.status.Load(); before != nil { // Until this one is told of.
		next.LastReload = before.LastReload
	}
	r.status.Store(next)
}

// stop refuses reloads from now on, and ends the one that is going on.
func (r *reloading) stop() {
	r.stopped.Store(true)
	if r.end != nil {
		r.end()
	}
}

// Reload reads the configuration again from where WithSource says and applies it;
// see Apply.
func (g *Gateway) Reload(ctx context.Context) error {
	if g.o.source == nil {
		return errors.New("the configuration has no source to read it from again")
	}
	return g.reloadFrom(ctx, g.o.source.Load)
}

// Apply puts a complete configuration in the place of the one in use: it is checked
// and built as a whole, then new requests get it, all at once; those that began
// before end by the one before. On an error nothing changes. What a running process
// cannot change keeps its value, and is named in the log and by Status. Calls
// wait for each other; ctx and a bound of 30s end them.
func (g *Gateway) Apply(ctx context.Context, cfg *configv1.Config) error {
	return g.reloadFrom(ctx, func(context.Context) (*configv1.Config, error) { return cfg, nil })
}

func (g *Gateway) reloadFrom(ctx context.Context, load func(context.Context) (*configv1.Config, error)) error {
	r := &g.reload
	ctx, cancel := context.WithTimeout(ctx, reloadTime)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	select {
	case r.one <- struct{}{}:
	case <-ctx.Done():
		if r.stopped.Load() {
			return ErrDraining
		}
		return g.reloadEnded(reloadFailed, fmt.Errorf("another reload has not ended: %w", ctx.Err()))
	}
	if r.stopped.Load() {
		<-r.one
		return ErrDraining
	}
	cfg, err := load(ctx)
	if err != nil {
		defer func() { <-r.one }()
		return g.reloadEnded(reloadInvalid, err)
	}
	if proto.Equal(cfg, r.wanted) {
		defer func() { <-r.one }()
		return g.reloadEnded(reloadUnchanged, nil)
	}
	return g.apply(ctx, cfg)
}

// trySnapshot builds: what panics over a configuration must not take the gateway
// down, which serves well with the one before.
func (g *Gateway) trySnapshot(ctx context.Context, cfg *configv1.Config) (s *snapshot, err error) {
	defer func() {
		if v := recover(); v != nil {
			g.log.Error("building a configuration panicked", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			s, err = nil, fmt.Errorf("building it panicked: %v", v)
		}
	}()
	return g.newSnapshot(ctx, cfg)
}

// apply builds in a goroutine of its own: what does not look at its context may
// hang, and whoever asked for the reload has an answer in time.
func (g *Gateway) apply(ctx context.Context, cfg *configv1.Config) error {
	effective, restart := config.Keep(g.cfg, cfg)
	type built struct {
		s   *snapshot
		err error
	}
	result := make(chan built, 1)
	go func() {
		s, err := g.trySnapshot(ctx, effective)
		result <- built{s, err}
	}()
	select {
	case b := <-result:
		defer func() { <-g.reload.one }()
		if b.err != nil {
			return g.reloadEnded(reloadFailed, b.err)
		}
		if g.reload.stopped.Load() {
			return errors.Join(ErrDraining, b.s.close())
		}
		g.applied(cfg, b.s, restart)
		return nil
	case <-ctx.Done():
		go func() { // The next reload waits for it.
			defer func() { <-g.reload.one }()
			if b := <-result; b.s != nil {
				_ = b.s.close() // Nothing of it was ever used.
			}
		}()
		if g.reload.stopped.Load() {
			return ErrDraining
		}
		return g.reloadEnded(reloadFailed, fmt.Errorf("building it took too long: %w", ctx.Err()))
	}
}

// applied is the one moment at which a reload takes effect.
func (g *Gateway) applied(cfg *configv1.Config, s *snapshot, restart []string) {
	if before := g.reload.wanted; before.GetLog().GetLevel() != cfg.GetLog().GetLevel() {
		g.setLevel(cfg.GetLog().GetLevel())
	}
	g.swap(s)
	g.openCalls.Changed()
	g.reload.count.Add(1)
	g.reload.wanted = cfg
	g.reload.loaded(cfg, restart)
	if len(restart) > 0 {
		g.log.Warn("the configuration changes what needs a restart: until then it stays as it was", "keys", restart)
	}
	_ = g.reloadEnded(reloadApplied, nil) // It returns what it is given.
}

// reloadEnded tells how a reload ended, and returns its error.
func (g *Gateway) reloadEnded(outcome string, err error) error {
	r := &g.reload
	r.total.WithLabelValues(outcome).Inc()
	st := *r.status.Load()
	st.LastReload = &admin.ConfigReload{At: time.Now(), Outcome: outcome}
	if err != nil {
		if outcome == reloadFailed && g.o.source != nil {
			err = config.Locate(g.o.source.String(), err)
		}
		err = config.Masked(err)
		st.LastReload.Error = err.Error()
		r.success.Set(0)
		g.log.Error("the configuration could not be reloaded: the one before stays in use", "outcome", outcome, "digest", st.Digest, "error", err)
	} else {
		r.success.Set(1)
		g.log.Info("configuration reloaded", "outcome", outcome, "digest", st.Digest)
	}
	r.status.Store(&st)
	return err
}

// Status says which configuration is in use, and how the last reload ended. There
// are no secrets in it.
func (g *Gateway) Status() admin.ConfigStatus {
	st := *g.reload.status.Load()
	if g.o.source != nil {
		st.Source = g.o.source.String()
	}
	return st
}

// follow reloads whenever the source says that it has changed.
func (g *Gateway) follow(ctx context.Context) {
	if g.o.source != nil {
		g.o.source.Watch(ctx, g.log, func() { _ = g.Reload(ctx) }) // It is told in log, metrics and status.
	}
}
