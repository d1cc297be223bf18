// Package announce tells etcd where a service is, in the form of etcd's naming
// package, for as long as the process lives: a lease takes the entry away soon
// after a process that could not say goodbye.
package announce

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.uber.org/zap"
)

// Options of an announcement. Endpoints, Name and Addr are needed.
type Options struct {
	// Endpoints are the URLs of the cluster's members.
	Endpoints []string
	// Prefix stands before Name in the key. Empty means DefaultPrefix.
	Prefix string
	// Name is what gateways look for, such as shop.user.v1.UserService.
	Name string
	// Addr is where this process is reached, host:port.
	Addr string
	// TTL is how long the entry outlives the process; 0 means 5s.
	TTL time.Duration
	// Logger gets what goes wrong. Nil means nobody.
	Logger *slog.Logger
}

// DefaultPrefix is where gateways look.
const DefaultPrefix = "sluice/services/"

// Bounds in time of one request to etcd, and between attempts.
const (
	requestTime = 3 * time.Second
	retryAfter  = time.Second
)

// Announcement is an entry that is kept alive. Close takes it away.
type Announcement struct {
	o      Options
	client *clientv3.Client
	stop   context.CancelFunc
	done   chan struct{}
	once   sync.Once
	err    error
}

// Announce begins to announce, and goes on in the background: an etcd that does not
// answer is tried again until Close. Options that cannot be right are an error.
func Announce(o Options) (*Announcement, error) {
	switch {
	case len(o.Endpoints) == 0:
		return nil, errors.New("announce: no etcd endpoints")
	case o.Name == "" || o.Addr == "":
		return nil, errors.New("announce: name and address are needed")
	}
	if o.TTL <= 0 {
		o.TTL = 5 * time.Second
	}
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: o.Endpoints, DialTimeout: requestTime, DialKeepAliveTimeout: 2 * time.Second,
		DialKeepAliveTime: 10 * time.Second, // The least of grpc-go's; etcd allows a ping every 5 s.
		Logger:            zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("announce: etcd: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	a := &Announcement{o: o, client: client, stop: stop, done: make(chan struct{})}
	go a.run(ctx)
	return a, nil
}

// run announces, and again when the lease is lost, until ctx ends.
func (a *Announcement) run(ctx context.Context) {
	defer close(a.done)
	said := false
	for ctx.Err() == nil {
		alive, err := a.put(ctx)
		if err == nil {
			a.o.Logger.Info("announced", "name", a.o.Name, "addr", a.o.Addr)
			said = false
			for range alive { // Closed when the lease is lost, or with ctx.
			}
			if ctx.Err() == nil {
				a.o.Logger.Warn("the announcement was lost: announcing again", "name", a.o.Name)
			}
		} else if ctx.Err() == nil && !said {
			said = true // Once an outage, not once a second.
			a.o.Logger.Warn("cannot announce: etcd does not answer, trying again", "name", a.o.Name, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
	a.err = a.remove()
}

func (a *Announcement) target() string { return a.o.Prefix + a.o.Name }

func (a *Announcement) put(ctx context.Context) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	asking, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	lease, err := a.client.Grant(asking, int64(max(1, a.o.TTL/time.Second)))
	if err != nil {
		return nil, err
	}
	m, err := endpoints.NewManager(a.client, a.target())
	if err != nil {
		return nil, err
	}
	if err := m.AddEndpoint(asking, a.target()+"/"+a.o.Addr, endpoints.Endpoint{Addr: a.o.Addr}, clientv3.WithLease(lease.ID)); err != nil {
		return nil, err
	}
	return a.client.KeepAlive(ctx, lease.ID)
}

// remove takes the entry away at once, so that nobody calls who leaves.
func (a *Announcement) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	m, err := endpoints.NewManager(a.client, a.target())
	if err != nil {
		return err
	}
	return m.DeleteEndpoint(ctx, a.target()+"/"+a.o.Addr)
}

// Close takes the entry away and ends. It may be called more than once.
func (a *Announcement) Close() error {
	a.once.Do(func() {
		a.stop()
		<-a.done
		a.err = errors.Join(a.err, ignoreCanceled(a.client.Close()))
	})
	return a.err
}

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
