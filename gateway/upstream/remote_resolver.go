package upstream

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"

	"github.com/sluice-gateway/sluice/gateway/discovery"
)

// remoteScheme is what grpc-go sees: where backends are is discovery's to say.
const remoteScheme = "sluice"

// serviceConfig names our balancer, what health checks ask for, and the deadlines of
// methods (gRFC A2).
func serviceConfig(check *HealthCheckOptions, deadlines map[string]time.Duration) string {
	type health struct {
		ServiceName string `json:"serviceName"`
	}
	c := struct {
		Balancing []map[string]struct{} `json:"loadBalancingConfig"`
		Health    *health               `json:"healthCheckConfig,omitempty"`
		Methods   []methodConfig        `json:"methodConfig,omitempty"`
	}{Balancing: []map[string]struct{}{{balancerName: {}}}, Methods: methodConfigs(deadlines)}
	if check != nil {
		c.Health = &health{ServiceName: check.Service}
	}
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // Strings can be written.
	}
	return string(b)
}

// resolverBuilder makes the resolver of one connection.
type resolverBuilder struct {
	remote *remote
	lookup discovery.Resolver
	target discovery.Target
	check  bool
}

func (*resolverBuilder) Scheme() string { return remoteScheme }

// OverrideAuthority is resolver.AuthorityOverrider: what calls name as their
// authority, and certificates must name.
func (b *resolverBuilder) OverrideAuthority(resolver.Target) string {
	switch t := b.target; t.Scheme {
	case discovery.DNS:
		return net.JoinHostPort(t.Name, t.Port)
	case discovery.Static:
		if strings.HasPrefix(t.Addr, "unix:") || strings.HasPrefix(t.Addr, "unix-abstract:") { // A socket in the file system, and no host:port.
			return "localhost"
		}
		return t.Addr
	default:
		return t.Name
	}
}

// known is what the resolver tells the balancer, as an attribute: grpc-go carries no
// weights.
type known struct {
	remote   *remote
	check    bool
	name     string // whom certificates name, unless a backend says otherwise
	backends []discovery.Backend
}

type knownKey struct{}

func (b *resolverBuilder) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	ctx, cancel := context.WithCancel(context.Background())
	b.remote.watches.Go(func() {
		b.lookup.Watch(ctx, func(backends []discovery.Backend, err error) {
			if err != nil {
				cc.ReportError(err)
				return
			}
			k := &known{remote: b.remote, check: b.check, name: b.target.Name, backends: backends}
			s := resolver.State{Attributes: attributes.New(knownKey{}, k), Addresses: make([]resolver.Address, len(backends))}
			for i, to := range backends {
				s.Addresses[i] = k.address(to)
			}
			_ = cc.UpdateState(s) // An error asks to look again: Watch does anyway.
		})
	})
	return &watching{b.lookup, cancel}, nil
}

func (k *known) address(b discovery.Backend) resolver.Address {
	a := resolver.Address{Addr: b.Addr}
	if b.ServerName != "" && b.ServerName != k.name {
		a.ServerName = b.ServerName
		if _, port, err := net.SplitHostPort(b.Addr); err == nil && !strings.HasPrefix(b.Addr, "unix:") {
			a.ServerName = net.JoinHostPort(b.ServerName, port)
		}
	}
	return a
}

type watching struct {
	lookup discovery.Resolver
	cancel context.CancelFunc
}

func (w *watching) ResolveNow(resolver.ResolveNowOptions) { w.lookup.ResolveNow() }

// Close ends the watch. Not here but in remote.Close it is waited for: grpc-go holds a
// lock that the watch's last update may need.
func (w *watching) Close() { w.cancel() }
