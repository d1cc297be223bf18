package discovery

import (
	"context"
	"net"
	"time"
)

const (
	// dnsTimeout bounds one lookup.
	dnsTimeout = 5 * time.Second
	// dnsGap is the least time between two: every connection that is lost asks for one.
	dnsGap = time.Second
)

// dnsLookup looks a name up again and again: A and AAAA records.
type dnsLookup struct {
	r   *Registry
	t   Target
	now chan struct{}
}

func (r *Registry) dns(t Target) Resolver {
	return &dnsLookup{r: r, t: t, now: make(chan struct{}, 1)}
}

func (d *dnsLookup) ResolveNow() {
	select {
	case d.now <- struct{}{}:
	default:
	}
}

// Watch keeps what is known where the name is not found, or has no address: that is
// how DNS fails, too.
func (d *dnsLookup) Watch(ctx context.Context, update func([]Backend, error)) {
	f := d.r.feed(DNS, net.JoinHostPort(d.t.Name, d.t.Port), update)
	for {
		backends, err := d.lookup(ctx)
		if ctx.Err() != nil {
			return
		}
		interval := d.r.o.DNSInterval
		if err != nil {
			f.fail(err)
			interval = min(interval, lastRetry)
		} else {
			f.tell(backends)
		}
		if !sleep(ctx, min(dnsGap, interval), nil) || !sleep(ctx, interval-min(dnsGap, interval), d.now) {
			return
		}
	}
}

func (d *dnsLookup) lookup(ctx context.Context) ([]Backend, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	addrs, err := d.r.o.DNS.LookupNetIP(ctx, "ip", d.t.Name)
	if err != nil {
		return nil, err
	}
	backends := make([]Backend, len(addrs))
	for i, a := range addrs {
		backends[i] = Backend{Addr: net.JoinHostPort(a.Unmap().String(), d.t.Port), Weight: 1, ServerName: d.t.Name}
	}
	return backends, nil
}
