package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/balance"
	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/tlsfile"
)

// Bounds of connections to backends.
const (
	dialTimeout       = 2 * time.Second
	idleConnTimeout   = 90 * time.Second // unless it is configured
	maxIdleConns      = 256              // of one backend
	maxResponseHeader = 64 << 10
	connBuffer        = 8 << 10
)

var errHandshake = errors.New("TLS handshake")

// backend is one place where a service runs, with its connections.
type backend struct {
	addr string
	pool *pool
}

// target is where the requests of an upstream, or of a variant of it, go.
type target struct {
	name    string // in metrics and logs
	variant string
	scheme  string
	group   *balance.Group[*backend]
	tls     *tlsfile.ClientTLS // nil means plaintext
	service *resilience.Service
	health  *HealthCheck
	idle    time.Duration // of a connection without requests
	log     *slog.Logger

	stop    context.CancelFunc
	watched sync.WaitGroup
	look    discovery.Resolver
	host    string // whom a certificate must name
	asks    string // the Host header of health checks; empty means the backend's address

	mu      sync.Mutex
	checked map[string]context.CancelFunc
}

// targetOptions are what all targets of an upstream share.
type targetOptions struct {
	upstream, variant string
	o                 *Options
	policy            string
	slowStart         time.Duration
	outlier           resilience.OutlierOptions
	health            *HealthCheck
	host              string        // Upstream.Host
	idle              time.Duration // Upstream.IdleTimeout
}

func openTarget(t Target, to targetOptions) (_ *target, err error) {
	name := to.upstream
	if to.variant != "" {
		name += "/" + to.variant
	}
	x := &target{name: name, variant: to.variant, scheme: "http", service: t.Service, asks: to.host, log: to.o.Logger, checked: map[string]context.CancelFunc{}}
	if x.idle = to.idle; x.idle <= 0 {
		x.idle = idleConnTimeout
	}
	known := false
	if to.o.Offline {
		t, to.health = Target{Service: t.Service}, nil
		x.look = discovery.StaticList(nil)
	} else if x.look, x.host, known, err = lookUp(t, to.o.Resolver); err != nil {
		return nil, err
	}
	if to.health != nil {
		h := *to.health
		h.fill()
		x.health = &h
	}
	if t.TLS != nil {
		x.scheme = "https"
		if x.tls, err = tlsfile.Client(tlsfile.ClientOptions{CAFile: t.TLS.CAFile, CertFile: t.TLS.CertFile, KeyFile: t.TLS.KeyFile,
			ServerName: t.TLS.ServerName, Log: to.o.Logger, Metrics: registerer(to.o.Metrics), Name: name}); err != nil {
			return nil, err
		}
	}
	x.group, err = balance.New[*backend](balance.Options{Name: name, Policy: to.policy, SlowStart: to.slowStart, Outlier: to.outlier,
		Ready: true, Log: to.o.Logger, Metrics: to.o.Balance})
	if err != nil {
		return nil, errors.Join(err, x.closeTLS())
	}
	ctx, stop := context.WithCancel(context.Background())
	x.stop = stop
	first := make(chan struct{})
	var once sync.Once
	x.watched.Go(func() {
		x.look.Watch(ctx, func(backends []discovery.Backend, err error) {
			if err != nil {
				x.log.Warn("backends could not be looked up", "upstream", name, "error", err)
				return
			}
			x.update(ctx, backends)
			once.Do(func() { close(first) })
		})
	})
	if known { // The first request must find them.
		<-first
	}
	return x, nil
}

// registerer keeps a nil interface nil.
func registerer(r prometheus.Registerer) prometheus.Registerer { return r }

// lookUp says how backends are found, whom their certificates must name, and whether
// they are known already.
func lookUp(t Target, r Resolver) (_ discovery.Resolver, host string, known bool, err error) {
	if len(t.Endpoints) > 0 {
		if t.Target != "" {
			return nil, "", false, errors.New("state either target or endpoints")
		}
		return discovery.StaticList(t.Endpoints), "", true, nil
	}
	parsed, err := discovery.ParseTarget(t.Target)
	switch {
	case err != nil:
		return nil, "", false, err
	case parsed.Scheme == discovery.Static:
		return discovery.StaticList([]discovery.Backend{{Addr: parsed.Addr, ServerName: parsed.Name}}), parsed.Name, true, nil
	case r == nil:
		return nil, "", false, fmt.Errorf("target %q needs discovery", t.Target)
	}
	look, err := r.Resolve(t.Target)
	return look, parsed.Name, false, err
}

// update takes a set of backends. Connections of those that are gone are left to end
// by themselves.
func (x *target) update(ctx context.Context, backends []discovery.Backend) {
	gone := x.group.Update(backends, func(_ *balance.Member[*backend], b discovery.Backend) *backend {
		made := &backend{addr: b.Addr}
		made.pool = newPool(x.transport(b), x.scheme, made.authority(), x.idle, x.log.With("upstream", x.name, "backend", b.Addr))
		x.check(ctx, made)
		return made
	})
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, b := range gone {
		if stop := x.checked[b.addr]; stop != nil {
			stop()
			delete(x.checked, b.addr)
		}
		b.pool.close()
	}
}

// transport speaks HTTP/1.1 alone: WebSockets need it, and one caller's streams cannot
// hold up another's. It asks no proxy of the environment, follows nothing, and unpacks
// nothing.
func (x *target) transport(b discovery.Backend) *http.Transport {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return dialInto(ctx, b.Addr)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	t := &http.Transport{
		DialContext: dial, Protocols: protocols, DisableCompression: true,
		MaxResponseHeaderBytes: maxResponseHeader, ReadBufferSize: connBuffer, WriteBufferSize: connBuffer,
	}
	if x.tls != nil {
		host := firstOf(b.ServerName, x.host, hostname(b.Addr))
		t.DialTLSContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := dial(ctx, "", "")
			if err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			secure, err := x.tls.Handshake(ctx, c, host)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", errHandshake, err)
			}
			return secure, nil
		}
	}
	return t
}

func firstOf(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

func hostname(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "localhost"
	}
	return host
}

// authority is what stands in the URL: the transport dials its own backend whatever
// it says.
func (b *backend) authority() string {
	if strings.HasPrefix(b.addr, "unix:") {
		return "localhost"
	}
	return b.addr
}

// check asks a backend whether it serves, until it is gone.
func (x *target) check(ctx context.Context, b *backend) {
	if x.health == nil {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	x.mu.Lock()
	x.checked[b.addr] = stop
	x.mu.Unlock()
	x.watched.Go(func() {
		defer stop()
		x.watchHealth(ctx, b)
	})
}

// watchHealth counts failures and successes in a row. A backend begins as one that
// serves: a gateway that starts must not refuse until the first answer.
func (x *target) watchHealth(ctx context.Context, b *backend) {
	tick := time.NewTicker(x.health.Interval)
	defer tick.Stop()
	failed, passed, out := 0, 0, false
	for {
		err := x.probe(ctx, b)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failed, passed = failed+1, 0
			if !out && failed >= x.health.UnhealthyAfter {
				out = true
				x.log.Warn("a backend fails its health check", "upstream", x.name, "backend", b.addr, "error", err)
			}
		} else {
			failed, passed = 0, passed+1
			if out && passed >= x.health.HealthyAfter {
				out = false
				x.log.Info("a backend passes its health check again", "upstream", x.name, "backend", b.addr)
			}
		}
		if out {
			x.group.Set(b.addr, balance.Unhealthy, err)
		} else {
			x.group.Set(b.addr, balance.Ready, nil)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (x *target) probe(ctx context.Context, b *backend) error {
	ctx, cancel := context.WithTimeout(ctx, x.health.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, x.scheme+"://"+b.authority()+x.health.Path, nil)
	if err != nil {
		return err
	}
	r.Host = x.asks
	r.Header.Set("User-Agent", "sluice-health")
	res, err := b.pool.RoundTrip(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("it answered %d", res.StatusCode)
	}
	return nil
}

func (x *target) closeTLS() error {
	if x.tls == nil {
		return nil
	}
	return x.tls.Close()
}

// close ends watching and idle connections. Requests must have ended.
func (x *target) close() error {
	x.stop()
	x.watched.Wait()
	for _, b := range x.group.Update(nil, nil) {
		b.pool.close()
	}
	x.group.Close()
	return x.closeTLS()
}
