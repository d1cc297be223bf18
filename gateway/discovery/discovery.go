package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Backend is one place where a service runs.
type Backend struct {
	// Addr is host:port, or unix:path.
	Addr string
	// Weight is its share under the policy `weighted`; 0 means 1.
	Weight int
	// ServerName is whom its certificate must name where the configuration says
	// nothing; empty means Target.Name.
	ServerName string
}

// Resolver watches the backends of one target. Safe for concurrent use.
type Resolver interface {
	// Watch calls update with the first set as soon as it is known, and with each
	// further one, until ctx ends; then it returns. Calls of update follow one
	// another and the set is the callee's. With an error, the set is nil and what
	// was known stays valid; the lookup goes on.
	Watch(ctx context.Context, update func(backends []Backend, err error))
	// ResolveNow asks to look again soon: a connection was lost. It does not wait,
	// and means nothing to sources that tell of changes themselves.
	ResolveNow()
}

// Options of a Registry.
type Options struct {
	// Etcd is where etcd:///name is looked up; nil means that there is none.
	Etcd *EtcdOptions
	// Consul is where consul:///name is looked up; nil means that there is none.
	Consul *ConsulOptions
	// DNSInterval is how often names are looked up again; 0 means 10 s.
	DNSInterval time.Duration
	// DNS looks names up; nil means net.DefaultResolver.
	DNS *net.Resolver
	// Log gets changes and failures; nil means nobody.
	Log *slog.Logger
	// Metrics gets sluice_discovery_*; nil means nobody.
	Metrics prometheus.Registerer
}

// DefaultDNSInterval is how often names are looked up again.
const DefaultDNSInterval = 10 * time.Second

// Registry holds what the resolvers of a gateway share: one client of etcd, one of
// Consul. Safe for concurrent use.
type Registry struct {
	o       Options
	metrics *metrics
	etcd    *etcd   // nil: not configured
	consul  *consul // nil: not configured
	once    sync.Once
	closers []func() error
	// relist and grace are etcdRelist and emptyGrace; tests are in a hurry.
	relist, grace time.Duration
}

// New opens the clients. It waits for no server: one that is away is asked again and
// again. What cannot be right (a URL, a file that cannot be read) is an error.
func New(o Options) (*Registry, error) {
	if o.DNSInterval <= 0 {
		o.DNSInterval = DefaultDNSInterval
	}
	if o.DNS == nil {
		o.DNS = net.DefaultResolver
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Registry{o: o, metrics: newMetrics(o.Metrics), relist: etcdRelist, grace: emptyGrace}
	if o.Etcd != nil {
		if err := r.openEtcd(o.Etcd); err != nil {
			return nil, errors.Join(fmt.Errorf("discovery.etcd: %w", err), r.Close())
		}
	}
	if o.Consul != nil {
		if err := r.openConsul(o.Consul); err != nil {
			return nil, errors.Join(fmt.Errorf("discovery.consul: %w", err), r.Close())
		}
	}
	return r, nil
}

// Resolve returns what watches a target. It calls nobody.
func (r *Registry) Resolve(target string) (Resolver, error) {
	t, err := ParseTarget(target)
	if err != nil {
		return nil, err
	}
	switch t.Scheme {
	case Static:
		return StaticList([]Backend{{Addr: t.Addr, ServerName: t.Name}}), nil
	case DNS:
		return r.dns(t), nil
	case Etcd:
		if r.etcd == nil {
			return nil, fmt.Errorf("target %q needs etcd: configure discovery.etcd.endpoints", target)
		}
		return r.watchEtcd(t), nil
	case Consul:
		if r.consul == nil {
			return nil, fmt.Errorf("target %q needs Consul: configure discovery.consul", target)
		}
		return r.watchConsul(t), nil
	}
	return nil, fmt.Errorf("target %q: xds is for gRPC services only, in a binary built with the tag xds", target)
}

// Close ends the clients. Watches must have ended.
func (r *Registry) Close() error {
	var err error
	r.once.Do(func() {
		for _, c := range r.closers {
			err = errors.Join(err, c())
		}
	})
	return err
}

// StaticList is a Resolver of backends that do not change.
func StaticList(backends []Backend) Resolver { return static(backends) }

type static []Backend

func (s static) Watch(ctx context.Context, update func([]Backend, error)) {
	update(append([]Backend(nil), s...), nil)
	<-ctx.Done()
}

func (static) ResolveNow() {}
