package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-gateway/sluice/gateway/balance"
	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/tlsfile"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// RemoteOptions say how to reach a service in other processes. Of Target and
// Endpoints one is needed; all else may be left out.
type RemoteOptions struct {
	// Target is where the backends are looked up, as discovery.ParseTarget reads it.
	Target string
	// Endpoints are the backends, where they do not change.
	Endpoints []discovery.Backend
	// Name stands for the target in logs, metrics and /routes; empty means Target, or
	// the addresses of Endpoints.
	Name string
	// TLS towards the backends; nil means plaintext.
	TLS *TLSOptions
	// Balancing says how calls are spread.
	Balancing BalancingOptions
	// HealthCheck asks each backend whether it serves (grpc.health.v1); nil means no.
	// One that does not know the service counts as healthy.
	HealthCheck *HealthCheckOptions
	// Outlier says when a backend that fails is left out.
	Outlier resilience.OutlierOptions
	// Discovery looks the target up; nil means one of its own, for which there is
	// neither etcd nor Consul.
	Discovery *discovery.Registry
	// Keepalive says how silent backends are found.
	Keepalive KeepaliveOptions
	// IdleTimeout closes the connections when there was no call for so long; the next
	// call waits for new ones. 0 means that they stay.
	IdleTimeout time.Duration
	// Deadlines bound the unary calls of methods, as Deadlines makes them. What is not
	// named is bounded by the context of its call alone. They mean nothing with xds:///.
	Deadlines map[string]time.Duration
	// Log gets what happens to backends; nil means nobody.
	Log *slog.Logger
	// Metrics counts backends; nil means nobody.
	Metrics *balance.Metrics

	// dial connects to a backend; nil means discovery.Dial. Tests have networks in memory.
	dial func(ctx context.Context, addr string) (net.Conn, error)
}

// BalancingOptions say how calls are spread over backends.
type BalancingOptions struct {
	// Policy is one of balance's; empty means balance.RoundRobin.
	Policy string
	// SlowStart is how long the share of a backend that is new, or back, grows to its
	// whole; 0 means not at all.
	SlowStart time.Duration
}

// HealthCheckOptions say what backends are asked.
type HealthCheckOptions struct {
	// Service is the name that is asked for; empty means the backend as a whole.
	Service string
}

// TLSOptions of a client. Files are PEM, and read again when they change.
type TLSOptions struct {
	// CAFile holds the authorities; empty means the system's.
	CAFile string
	// CertFile and KeyFile are our certificate, for mTLS; both or neither.
	CertFile, KeyFile string
	// ServerName is who the server must be; empty means the target's host.
	ServerName string
	// Refresh is how often the files are looked at; 0 means 10s.
	Refresh time.Duration
	// Log gets reloads; nil means nobody.
	Log *slog.Logger
	// Metrics gets sluice_tls_*, named by the target; nil means nobody.
	Metrics prometheus.Registerer
}

// streamWindow is what a service may send on a stream before the gateway reads
// it, in bytes, and connWindow on all streams of a connection before grpc-go
// does: docs/decisions/0015-forwarding.md.
const (
	streamWindow = 256 << 10
	connWindow   = 1 << 20
)

// Bounds of a connection attempt. grpc-go's wait between attempts grows to two
// minutes: a backend that is back should be used again within two seconds, also when
// an attempt has just begun whose packets are lost.
const (
	connectBackoff    = 100 * time.Millisecond
	connectBackoffMax = 700 * time.Millisecond
	connectTimeout    = time.Second
)

// Balanced is a Target that knows its backends: those that Remote returns do.
type Balanced interface {
	Target
	// Backends says how each is, by address. With xds:/// it is nil.
	Backends() []balance.BackendState
}

// Remote connects to a service in other processes. It does not wait for connections:
// while there are none, calls fail with UNAVAILABLE. Options that cannot be right, or
// a file that cannot be read, are an error.
func Remote(o RemoteOptions) (Target, error) {
	r, err := newRemote(o)
	if err != nil {
		return nil, fmt.Errorf("upstream target %q: %w", o.name(), err)
	}
	return r, nil
}

// CheckTarget says whether a target can be parsed, and whether this binary can look
// it up. It calls nobody.
func CheckTarget(target string) error {
	t, err := discovery.ParseTarget(target)
	if err == nil && t.Scheme == discovery.XDS {
		_, err = xdsTarget(t)
	}
	return err
}

func (o *RemoteOptions) name() string {
	if o.Name != "" || o.Target != "" {
		return cmp.Or(o.Name, o.Target)
	}
	addrs := make([]string, len(o.Endpoints))
	for i, e := range o.Endpoints {
		addrs[i] = e.Addr
	}
	return strings.Join(addrs, ",")
}

type remote struct {
	*grpc.ClientConn
	name    string
	group   *balance.Group[*backend] // nil with xds:///
	watches sync.WaitGroup           // of discovery
	closers []func() error           // the last first
	// deadlines are those that grpc-go has been told of.
	deadlines map[string]time.Duration
}

func newRemote(o RemoteOptions) (*remote, error) {
	r := &remote{name: o.name()}
	cc, err := r.dial(&o)
	if err != nil {
		return nil, errors.Join(err, r.closeRest())
	}
	r.ClientConn = cc
	cc.Connect()
	return r, nil
}

func (r *remote) dial(o *RemoteOptions) (*grpc.ClientConn, error) {
	if (o.Target == "") == (len(o.Endpoints) == 0) {
		return nil, errors.New("state either target or endpoints")
	}
	target, err := o.parse()
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if o.TLS != nil {
		files, err := o.TLS.open(r.name)
		if err != nil {
			return nil, err
		}
		r.closers = append(r.closers, files.Close)
		creds = files.Credentials()
	}
	opts := append(o.dialOptions(), grpc.WithTransportCredentials(creds))
	if target.Scheme == discovery.XDS {
		uri, err := xdsTarget(target)
		if err != nil {
			return nil, err
		}
		return grpc.NewClient(uri, opts...)
	}
	if o.IdleTimeout == 0 {
		r.deadlines = o.Deadlines // Otherwise a call may wait for the lookup, which grpc-go does not bound.
	}
	lookup, err := r.lookup(o, target)
	if err != nil {
		return nil, err
	}
	r.group, err = balance.New[*backend](balance.Options{Name: r.name, Policy: o.Balancing.Policy, SlowStart: o.Balancing.SlowStart,
		Outlier: o.Outlier, Log: o.Log, Metrics: o.Metrics})
	if err != nil {
		return nil, err
	}
	r.closers = append(r.closers, func() error {
		r.group.Close()
		return nil
	})
	return grpc.NewClient(remoteScheme+":///backends", append(opts,
		grpc.WithResolvers(&resolverBuilder{remote: r, lookup: lookup, target: target, check: o.HealthCheck != nil}),
		grpc.WithDefaultServiceConfig(serviceConfig(o.HealthCheck, r.deadlines)),
		// Service config from elsewhere could change policy behind the operator's back.
		grpc.WithDisableServiceConfig(),
		// The gateway calls its backends itself, whatever HTTPS_PROXY says.
		grpc.WithNoProxy(),
	)...)
}

func (o *RemoteOptions) parse() (discovery.Target, error) {
	if o.Target != "" {
		return discovery.ParseTarget(o.Target)
	}
	for i, e := range o.Endpoints {
		t, err := discovery.ParseEndpoint(e.Addr)
		if err != nil {
			return t, err
		}
		if e.ServerName == "" {
			o.Endpoints[i].ServerName = t.Name
		}
	}
	return discovery.Target{Scheme: discovery.Static, Addr: o.Endpoints[0].Addr}, nil
}

func (r *remote) lookup(o *RemoteOptions, target discovery.Target) (discovery.Resolver, error) {
	if o.Target == "" {
		return discovery.StaticList(o.Endpoints), nil
	}
	d := o.Discovery
	if d == nil {
		var err error
		if d, err = discovery.New(discovery.Options{Log: o.Log}); err != nil {
			return nil, err
		}
		r.closers = append(r.closers, d.Close)
	}
	return d.Resolve(o.Target)
}

func (o *RemoteOptions) dialOptions() []grpc.DialOption {
	dial := o.dial
	if dial == nil {
		dial = discovery.Dial
	}
	return []grpc.DialOption{
		grpc.WithContextDialer(dial),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.Codec{}), grpc.MaxCallRecvMsgSize(MaxMessageBytes)),
		// Retries are a wrapper of ours, the same in-process.
		grpc.WithDisableRetry(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: connectBackoff, Multiplier: 1.6, Jitter: 0.2, MaxDelay: connectBackoffMax},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(o.Keepalive.parameters()),
		grpc.WithIdleTimeout(o.IdleTimeout),
		// Windows of grpc-go's own choice grow to 16 MiB a stream: so much would be
		// held for a caller that reads slowly.
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connWindow),
	}
}

// Invoke implements Target.
func (r *remote) Invoke(ctx context.Context, method string, request, response *wire.Frame, header, trailer *metadata.MD) error {
	if header == nil && trailer == nil {
		return r.ClientConn.Invoke(ctx, method, request, response)
	}
	return r.ClientConn.Invoke(ctx, method, request, response, grpc.Header(header), grpc.Trailer(trailer))
}

func (r *remote) String() string { return r.name }

// Backends says how each is.
func (r *remote) Backends() []balance.BackendState {
	if r.group == nil {
		return nil
	}
	return r.group.Backends()
}

// Close ends the connections and the watching, then what they used.
func (r *remote) Close() error {
	err := r.ClientConn.Close()
	r.watches.Wait()
	return errors.Join(err, r.closeRest())
}

func (r *remote) closeRest() error {
	var err error
	for _, c := range slices.Backward(r.closers) {
		err = errors.Join(err, c())
	}
	return err
}

func (o *TLSOptions) open(target string) (*tlsfile.ClientTLS, error) {
	return tlsfile.Client(tlsfile.ClientOptions{
		CAFile: o.CAFile, CertFile: o.CertFile, KeyFile: o.KeyFile, ServerName: o.ServerName,
		Refresh: o.Refresh, Log: o.Log, Metrics: o.Metrics, Name: target,
	})
}
