package discovery

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// consulWait is how long Consul may keep a query that waits for a change. It adds
	// up to a sixteenth.
	consulWait = time.Minute
	// consulTimeout is what an answer may take beside that.
	consulTimeout = 10 * time.Second
	// consulGap is the least time between two queries: an index that moves all the
	// time must not become a loop without a pause.
	consulGap = 100 * time.Millisecond
	// DefaultConsulAddress is that of the agent on the same machine.
	DefaultConsulAddress = "http://127.0.0.1:8500"
)

// ConsulOptions say where Consul's agent is.
type ConsulOptions struct {
	// Address is its URL; empty means DefaultConsulAddress.
	Address string
	// TLS is for an https URL; nil means the system's authorities.
	TLS *tls.Config
	// TokenFile holds the ACL token. It is read again when Consul refuses a query.
	TokenFile string
	// Datacenter; empty means the agent's own.
	Datacenter string
}

type consul struct {
	client    *api.Client
	transport *http.Transport
	o         ConsulOptions
}

func (r *Registry) openConsul(o *ConsulOptions) error {
	c := &consul{o: *o}
	c.o.Address = cmp.Or(o.Address, DefaultConsulAddress)
	u, err := url.Parse(c.o.Address)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("address: %q must be a URL such as %s", c.o.Address, DefaultConsulAddress)
	}
	if _, err := c.token(); err != nil {
		return err
	}
	c.transport = &http.Transport{
		DialContext:       (&net.Dialer{Timeout: consulTimeout, KeepAlive: consulTimeout}).DialContext,
		TLSClientConfig:   o.TLS,
		ForceAttemptHTTP2: true, TLSHandshakeTimeout: consulTimeout, IdleConnTimeout: time.Minute,
	}
	c.client, err = api.NewClient(&api.Config{Address: u.Host, Scheme: u.Scheme, HttpClient: &http.Client{Transport: c.transport}})
	if err != nil {
		return err
	}
	r.consul = c
	r.closers = append(r.closers, func() error {
		c.transport.CloseIdleConnections()
		return nil
	})
	return nil
}

func (c *consul) token() (string, error) {
	if c.o.TokenFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(c.o.TokenFile)
	if err != nil {
		return "", fmt.Errorf("token_file: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// consulWatch asks again and again for the instances that pass their checks, each
// query waiting at Consul until something changes.
type consulWatch struct {
	r *Registry
	t Target
}

func (r *Registry) watchConsul(t Target) Resolver { return &consulWatch{r, t} }

func (*consulWatch) ResolveNow() {} // Consul tells.

func (w *consulWatch) Watch(ctx context.Context, update func([]Backend, error)) {
	f := w.r.feed(Consul, w.t.Name, update)
	var index uint64
	for ctx.Err() == nil {
		backends, next, err := w.query(ctx, index)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			index = 0 // So that the next answer comes at once.
			f.fail(err)
			if !f.wait(ctx) {
				return
			}
			continue
		case next < index: // As it documents: a server was restored, begin anew.
			index = 0
			f.failures++
			continue
		}
		index = next
		if len(backends) == 0 && f.kept() {
			index = 0
			if !sleep(ctx, min(time.Second, w.r.grace), nil) {
				return
			}
			continue
		}
		f.tell(backends)
		if !sleep(ctx, consulGap, nil) {
			return
		}
	}
}

func (w *consulWatch) query(ctx context.Context, index uint64) ([]Backend, uint64, error) {
	c := w.r.consul
	token, err := c.token()
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, consulWait+consulWait/16+consulTimeout)
	defer cancel()
	q := &api.QueryOptions{Datacenter: c.o.Datacenter, AllowStale: true, WaitIndex: index, WaitTime: consulWait, Token: token}
	entries, meta, err := c.client.Health().Service(w.t.Name, w.t.Tag, true, q.WithContext(ctx))
	if err != nil {
		return nil, 0, err
	}
	if meta.LastIndex == 0 {
		return nil, 0, errors.New("the answer has no X-Consul-Index: that is no Consul agent")
	}
	backends := make([]Backend, 0, len(entries))
	for _, e := range entries {
		if e.Service == nil || e.Node == nil {
			return nil, 0, errors.New("an instance has no service or node")
		}
		host := cmp.Or(e.Service.Address, e.Node.Address) // As documented: the node's where it has none.
		b, err := found(net.JoinHostPort(host, strconv.Itoa(e.Service.Port)), e.Service.Weights.Passing)
		if err != nil {
			w.r.o.Log.Warn("Consul holds what is no endpoint", "service", w.t.Name, "instance", e.Service.ID, "error", err)
			continue
		}
		backends = append(backends, b)
	}
	return backends, meta.LastIndex, nil
}
