package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
	// calls it. Beside an error the keys are those that the file names all the
	// same: of them ID and Hash are looked at, and keys that are not among them
	// stop working. None beside an error mean that nothing could be read.
	Load func() ([]APIKey, error)
	// MaxAge is how long keys of Load are used while it fails; 0 means 24 hours.
	MaxAge time.Duration
	// Changed is called after the keys have changed, or have all become too old; nil
	// means nobody is told.
	Changed func()
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log takes what goes wrong with a reload; nil means slog.Default().
	Log *slog.Logger
	// Metrics takes sluice_apikeys, sluice_apikeys_reload_failed,
	// sluice_apikeys_age_seconds and sluice_apikey_used_total; nil means nobody.
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

	// failing is since when Load fails, in nanoseconds of Unix time; 0 is that it
	// does not.
	failing atomic.Int64

	reloading sync.Mutex
	failed    failures // Guarded by reloading.
	ended     bool     // That keys are too old was logged; guarded by reloading.
	count     prometheus.Gauge
	stale     prometheus.Gauge
	age       prometheus.GaugeFunc
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
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 24 * time.Hour
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
	k.age = prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_apikeys_age_seconds",
		Help: "For how long the file of API keys cannot be read; 0 while it can."},
		func() float64 { return k.failingFor().Seconds() })
	if _, err := rand.Read(k.nobody.hash[:]); err != nil {
		return nil, err
	}
	if o.Metrics != nil {
		for _, c := range []prometheus.Collector{k.count, k.stale, k.age, k.used} {
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
// before, all at once: a key that is gone stops working. A file with errors adds
// and changes no key, but those that it does not name any more, or names with
// another hash, stop all the same; the others stay until a reload succeeds, for
// MaxAge at most. An error is logged, once while it stays the same.
func (k *APIKeys) Reload() error {
	k.reloading.Lock()
	defer k.reloading.Unlock()
	err := k.load()
	k.failed.report(k.o.Log, err)
	if err == nil {
		k.failing.Store(0)
		k.stale.Set(0)
		k.ended = false
		return nil
	}
	k.failing.CompareAndSwap(0, k.o.Now().UnixNano())
	k.stale.Set(1)
	if k.tooOld() && !k.ended {
		k.ended = true
		k.o.Log.Error("the file of API keys could not be read for too long; its keys stop working", "max_age", k.o.MaxAge, "error", err)
		k.o.Changed()
	}
	return err
}

// failingFor is for how long Load fails; 0 while it does not.
func (k *APIKeys) failingFor() time.Duration {
	since := k.failing.Load()
	if since == 0 {
		return 0
	}
	return max(k.o.Now().Sub(time.Unix(0, since)), 0)
}

// tooOld says whether the keys of Load may not be used any more.
func (k *APIKeys) tooOld() bool { return k.failing.Load() != 0 && k.failingFor() >= k.o.MaxAge }

// load must not run twice at once.
func (k *APIKeys) load() error {
	var more []APIKey
	var err error
	if k.o.Load != nil {
		more, err = k.o.Load()
	}
	if err == nil {
		var keys map[string]*storedKey
		if keys, err = k.stored(more); err == nil {
			for id, stored := range keys { // Before they are shared.
				stored.used = k.used.WithLabelValues(id)
			}
			k.swap(keys)
			return nil
		}
	}
	k.forget(more)
	return err
}

// stored are the keys of the options and those of the file.
func (k *APIKeys) stored(more []APIKey) (map[string]*storedKey, error) {
	keys := make(map[string]*storedKey, len(k.o.Keys)+len(more))
	var errs []error
	for i, key := range slices.Concat(k.o.Keys, more) {
		stored, err := key.store()
		switch {
		case err != nil:
			errs = append(errs, err)
		case keys[key.ID] != nil:
			errs = append(errs, fmt.Errorf("API key %s: two keys have this id", key.ID))
		default:
			stored.ofFile = i >= len(k.o.Keys)
			keys[key.ID] = stored
		}
	}
	return keys, errors.Join(errs...)
}

// forget drops the keys of a file with errors that it does not name any more, or
// names with another hash.
func (k *APIKeys) forget(named []APIKey) {
	before := k.keys.Load()
	if before == nil || len(named) == 0 {
		return
	}
	stay := make(map[string]bool, len(named))
	for _, key := range named {
		if old := (*before)[key.ID]; old != nil {
			sum, err := key.sum()
			stay[key.ID] = stay[key.ID] || err != nil || sum == old.hash
		}
	}
	keys := make(map[string]*storedKey, len(*before))
	var gone []string
	for id, stored := range *before {
		if stored.ofFile && !stay[id] {
			gone = append(gone, id)
			continue
		}
		keys[id] = stored
	}
	if len(gone) > 0 {
		slices.Sort(gone)
		k.o.Log.Warn("API keys stop working that their file does not name any more; what else it changes waits until it has no errors", "keys", gone)
		k.swap(keys)
	}
}

func (k *APIKeys) swap(keys map[string]*storedKey) {
	before := k.keys.Swap(&keys)
	k.count.Set(float64(len(keys)))
	if before != nil {
		for id := range *before {
			if keys[id] == nil {
				k.used.DeleteLabelValues(id) // The labels stay those of the keys.
			}
		}
		k.o.Changed()
	}
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
