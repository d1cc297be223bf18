package discovery

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// DefaultEtcdPrefix is what stands before the name of a target in keys.
const DefaultEtcdPrefix = "sluice/services/"

const (
	// etcdTimeout bounds a request, and a connection that is silent.
	etcdTimeout = 5 * time.Second
	// etcdRelist is how often all is read anew beside the watch. A cluster that lost its
	// data begins at revision 1, and a watch from where the old one was would wait for ever.
	etcdRelist = 30 * time.Second
)

// EtcdOptions say where etcd is.
type EtcdOptions struct {
	// Endpoints are URLs of the cluster's members.
	Endpoints []string
	// TLS is for https URLs; nil means the system's authorities.
	TLS *tls.Config
	// Username; empty means none.
	Username string
	// PasswordFile is read once.
	PasswordFile string
	// Prefix stands before the name of a target in keys; empty means DefaultEtcdPrefix.
	Prefix string
}

// etcd is the client that all targets share. It is made when it is first needed: with
// a user name, making it asks the cluster.
type etcd struct {
	config clientv3.Config
	prefix string

	mu     sync.Mutex
	client *clientv3.Client
}

func (r *Registry) openEtcd(o *EtcdOptions) error {
	if len(o.Endpoints) == 0 {
		return errors.New("endpoints: name at least one, such as http://127.0.0.1:2379")
	}
	e := &etcd{prefix: cmp.Or(o.Prefix, DefaultEtcdPrefix)}
	secure := false
	for _, at := range o.Endpoints {
		u, err := url.Parse(at)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("endpoints: %q must be a URL such as http://127.0.0.1:2379", at)
		}
		secure = secure || u.Scheme == "https"
	}
	e.config = clientv3.Config{
		Endpoints: o.Endpoints, TLS: o.TLS, Username: o.Username, Logger: zap.NewNop(), DialTimeout: etcdTimeout,
		DialKeepAliveTime: 2 * etcdTimeout, DialKeepAliveTimeout: etcdTimeout,
		// grpc-go's wait between attempts grows to two minutes.
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstRetry, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastRetry / 2},
			MinConnectTimeout: etcdTimeout,
		})},
	}
	if secure && o.TLS == nil {
		e.config.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if o.Username != "" {
		password, err := os.ReadFile(o.PasswordFile)
		if err != nil {
			return fmt.Errorf("password_file: %w", err)
		}
		e.config.Password = strings.TrimSpace(string(password))
		if e.config.Password == "" {
			return fmt.Errorf("password_file: %s is empty", o.PasswordFile)
		}
	}
	r.etcd = e
	r.closers = append(r.closers, e.close)
	return nil
}

func (e *etcd) connect() (*clientv3.Client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client != nil {
		return e.client, nil
	}
	var err error
	e.client, err = clientv3.New(e.config)
	return e.client, err
}

func (e *etcd) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client == nil {
		return nil
	}
	return e.client.Close()
}

// etcdWatch follows the keys under a prefix, as etcd's naming/endpoints lays them out.
type etcdWatch struct {
	r   *Registry
	t   Target
	key string
}

func (r *Registry) watchEtcd(t Target) Resolver {
	return &etcdWatch{r: r, t: t, key: r.etcd.prefix + t.Name + "/"}
}

func (*etcdWatch) ResolveNow() {} // etcd tells.

// errBehind is that the watch has not told of what is there.
var errBehind = errors.New("the watch is behind")

// Watch lists the keys, then follows their changes; when etcd has forgotten what came
// in between (compaction), has no leader or lost its data, it lists again.
func (w *etcdWatch) Watch(ctx context.Context, update func([]Backend, error)) {
	f := w.r.feed(Etcd, w.t.Name, update)
	for ctx.Err() == nil {
		err := w.follow(ctx, f)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, errBehind) {
			continue
		}
		f.fail(err)
		if !f.wait(ctx) {
			return
		}
	}
}

// follow returns when it cannot go on from what it knows.
func (w *etcdWatch) follow(ctx context.Context, f *feed) error {
	client, err := w.r.etcd.connect()
	if err != nil {
		return err
	}
	keys, rev, err := w.list(ctx, client)
	if err != nil {
		return err
	}
	w.tell(f, keys, true)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Watch returns when etcd has taken it. An etcd that goes away before would keep us there
	// for as long as it is away, and nobody would be told.
	var changes clientv3.WatchChan
	taken := make(chan clientv3.WatchChan, 1)
	go func() {
		taken <- client.Watch(clientv3.WithRequireLeader(ctx), w.key, clientv3.WithPrefix(), clientv3.WithRev(rev+1))
	}()
	again := time.NewTicker(w.r.relist)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case changes = <-taken:
		case c, ok := <-changes:
			if !ok {
				return errors.New("the watch ended")
			}
			if err := c.Err(); err != nil {
				return err
			}
			for _, e := range c.Events {
				w.apply(keys, e.Type == clientv3.EventTypeDelete, e.Kv)
			}
			rev = max(rev, c.Header.Revision)
			w.tell(f, keys, false)
		case <-again.C:
			read, at, err := w.list(ctx, client)
			if err != nil {
				return err
			}
			if at < rev {
				return fmt.Errorf("its revision went back from %d to %d: it lost its data", rev, at)
			}
			if at > rev && !maps.Equal(read, keys) {
				// The watch is about to tell, or never will: a cluster that lost its data
				// may be past this revision already.
				return errBehind
			}
			if at == rev {
				keys = read
				w.tell(f, keys, true)
			}
		}
	}
}

func (w *etcdWatch) list(ctx context.Context, client *clientv3.Client) (map[string]Backend, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	answer, err := client.Get(ctx, w.key, clientv3.WithPrefix(), clientv3.WithLimit(MaxBackends+1))
	if err != nil {
		return nil, 0, err
	}
	keys := make(map[string]Backend, len(answer.Kvs))
	for _, kv := range answer.Kvs {
		w.apply(keys, false, kv)
	}
	return keys, answer.Header.Revision, nil
}

// tell says the set, unless it is empty after trouble.
func (w *etcdWatch) tell(f *feed, keys map[string]Backend, listed bool) {
	if len(keys) == 0 && listed && f.kept() {
		return
	}
	f.tell(slices.Collect(maps.Values(keys)))
}

// apply follows one key. A value that cannot be read is as if it were not there.
func (w *etcdWatch) apply(keys map[string]Backend, gone bool, kv *mvccpb.KeyValue) {
	key := string(kv.Key)
	if gone {
		delete(keys, key)
		return
	}
	b, err := parseEndpoint(kv.Value)
	if err != nil {
		delete(keys, key)
		w.r.o.Log.Warn("etcd holds what is no endpoint", "key", key, "error", err)
		return
	}
	keys[key] = b
}

// parseEndpoint reads what naming/endpoints wrote: {"Op":0,"Addr":"host:port",
// "Metadata":…}. Metadata may be a weight, or an object with one.
func parseEndpoint(value []byte) (Backend, error) {
	var v struct {
		Addr     string          `json:"Addr"`
		Metadata json.RawMessage `json:"Metadata"`
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return Backend{}, err
	}
	var weight float64
	var object struct {
		Weight float64 `json:"weight"`
	}
	switch {
	case json.Unmarshal(v.Metadata, &weight) == nil:
	case json.Unmarshal(v.Metadata, &object) == nil:
		weight = object.Weight
	}
	return found(v.Addr, int(min(max(weight, 0), maxWeight)))
}
