package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// APIKeysOptions make APIKeys.
type APIKeysOptions struct {
	// Header is the one that carries a key; empty means X-API-Key.
	Header string
	// Keys are those that never change.
	Keys []APIKey
	// Load reads more keys, from a file; nil means that there are none. Reload
	// calls it.
	Load func() ([]APIKey, error)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log takes what goes wrong with a reload; nil means slog.Default().
	Log *slog.Logger
	// Metrics takes sluice_apikeys, sluice_apikeys_reload_failed and
	// sluice_apikey_used_total; nil means nobody.
	Metrics prometheus.Registerer
}

// APIKeys are the keys by which programs say who they are. It is safe for
// concurrent use.
//
// A key is read from its header alone. Nothing here or at the edges reads one
// from a URL, where it would end up in logs and histories.
type APIKeys struct {
	o      APIKeysOptions
	keys   atomic.Pointer[map[string]*storedKey]
	nobody *storedKey // A hash that no key has.

	header policy.Header

	reloading sync.Mutex
	failed    failures // Guarded by reloading.
	count     prometheus.Gauge
	stale     prometheus.Gauge
	used      *prometheus.CounterVec
	watching  watching
}

// NewAPIKeys checks the keys and reads the file's. An error names the key by
// its id.
func NewAPIKeys(o APIKeysOptions) (*APIKeys, error) {
	if o.Header == "" {
		o.Header = apiKeyHeader
	}
	if !validHeader(o.Header) {
		return nil, errHeader
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Log = orDefaultLog(o.Log)
	k := &APIKeys{
		o: o, nobody: &storedKey{}, failed: failures{what: "the file of API keys"},
		header: policy.NewHeader(o.Header),
		count:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_apikeys", Help: "API keys that are known, expired ones too."}),
		stale: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_apikeys_reload_failed",
			Help: "1 while the file of API keys cannot be read and the keys from before are in use, else 0."}),
		used: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_apikey_used_total",
			Help: "Requests with an API key that was good, by the key's id."}, []string{"key"}),
	}
	if _, err := rand.Read(k.nobody.hash[:]); err != nil {
		return nil, err
	}
	if o.Metrics != nil {
		for _, c := range []prometheus.Collector{k.count, k.stale, k.used} {
			if err := o.Metrics.Register(c); err != nil {
				return nil, fmt.Errorf("metrics of API keys: %w", err)
			}
		}
	}
	if err := k.load(); err != nil {
		return nil, err
	}
	return k, nil
}

// Reload reads the file's keys again and puts them in the place of those from
// before, all at once: a key that is gone stops working. On an error the keys
// from before stay, all of them, until a reload succeeds; it is logged, once
// while it stays the same.
func (k *APIKeys) Reload() error {
	k.reloading.Lock()
	defer k.reloading.Unlock()
	err := k.load()
	k.failed.report(k.o.Log, err)
	k.stale.Set(0)
	if err != nil {
		k.stale.Set(1)
	}
	return err
}

// load must not run twice at once.
func (k *APIKeys) load() error {
	all := k.o.Keys
	if k.o.Load != nil {
		more, err := k.o.Load()
		if err != nil {
			return err
		}
		all = append(all[:len(all):len(all)], more...)
	}
	keys := make(map[string]*storedKey, len(all))
	var errs []error
	for i := range all {
		stored, err := all[i].store()
		switch {
		case err != nil:
			errs = append(errs, err)
		case keys[all[i].ID] != nil:
			errs = append(errs, fmt.Errorf("API key %s: two keys have this id", all[i].ID))
		default:
			keys[all[i].ID] = stored
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for id, stored := range keys {
		stored.used = k.used.WithLabelValues(id)
	}
	before := k.keys.Swap(&keys)
	k.count.Set(float64(len(keys)))
	if before != nil {
		for id := range *before {
			if keys[id] == nil {
				k.used.DeleteLabelValues(id) // The labels stay those of the keys.
			}
		}
	}
	return nil
}

// WatchFile reloads when the file at path has changed, which it looks for every
// interval; 0 means every five seconds. Close ends it.
func (k *APIKeys) WatchFile(path string, interval time.Duration) {
	k.watching.start(path, interval, k.Reload)
}

// Close stops watching, and waits until that is so.
func (k *APIKeys) Close() { k.watching.close() }

// values are those of the key's header.
func (k *APIKeys) values(c *policy.Call) []string { return c.Headers(k.header.On(c.Edge)) }
