// Package jwks fetches an issuer's keys over HTTP: a JSON Web Key Set (RFC 7517)
// as an auth.KeySource. It is apart from gateway/auth because it fetches, which
// that package does not.
package jwks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/auth"
)

// Options make a Source. Zero durations mean their defaults.
type Options struct {
	// URL of the key set: https, or http on a loopback address. Who can change
	// what it answers can forge tokens.
	URL string
	// Discovery is, instead of URL, that of the issuer's configuration (OpenID
	// Connect Discovery 1.0), under the same conditions; see [DiscoveryURL]. It is
	// read before each fetch, and must be Issuer's own.
	Discovery string
	// Issuer is the exact name of the issuer. It labels logs and metrics, too;
	// without it the URL's host does.
	Issuer string
	// Refresh is the time from one good fetch to the next; default 10 minutes, and
	// half of MaxAge at most. Failed ones are tried again after 1 s, 2 s, … 30 s.
	Refresh time.Duration
	// MinInterval is the least time between fetches that tokens with unknown key
	// ids cause; default 30 s.
	MinInterval time.Duration
	// MaxAge is how long the keys of the last good fetch are used while no fetch
	// is good; default 24 h, at least a minute. Then every token of the issuer is
	// answered UNAVAILABLE, except those that a verifier still remembers.
	MaxAge time.Duration
	// Timeout of a fetch; default 5 s. A token whose key is unknown waits no
	// longer than this.
	Timeout time.Duration
	// Log is told of failed fetches; nil means nobody is.
	Log *slog.Logger
	// Metrics is where the source registers sluice_jwks_fetches_total{issuer,
	// outcome}, sluice_jwks_keys_age_seconds{issuer}, sluice_jwks_keys{issuer} and
	// sluice_jwks_keys_skipped{issuer,reason}; nil means nowhere. Sources of different issuers may share it.
	Metrics prometheus.Registerer
}

// Source holds the keys of a set, fetched in the background. A token with a
// known key id never waits for a fetch. While the set cannot be fetched the keys
// of the last good fetch are used, for MaxAge. It is safe for concurrent use.
type Source struct {
	o       Options
	name    string // Of the issuer, in logs and metrics.
	client  *http.Client
	ctx     context.Context // Of the fetches; ended by Close.
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	metrics *collector
	started time.Time
	first   *fetch

	keys    atomic.Pointer[keySet] // nil until the first good fetch.
	failed  atomic.Bool            // The last fetch was no good.
	waiting atomic.Int32           // Callers that wait for a fetch.
	skipped map[string]bool        // Keys of the set that the log has named; of the one fetch that goes on.

	mu       sync.Mutex
	current  *fetch      // nil while none is going on.
	demanded time.Time   // When tokens last caused a fetch.
	due      *time.Timer // Of the next fetch that tokens cause; nil: none is.
	closed   bool
}

// New starts to fetch and returns at once: a gateway starts though an issuer is
// down. Its tokens are then answered UNAVAILABLE. Close ends it.
func New(o Options) (*Source, error) { return newSource(o, newTransport()) }

func newSource(o Options, t http.RoundTripper) (*Source, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Source{o: o, name: o.Issuer, client: newClient(t), started: time.Now()}
	if s.name == "" {
		u, err := url.Parse(o.URL)
		if err != nil {
			return nil, err
		}
		s.name = u.Host
	}
	var err error
	if s.metrics, err = watch(o.Metrics, s); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.first = s.start()
	s.wg.Add(1)
	go s.refresh(s.first)
	return s, nil
}

func (o *Options) complete() error {
	switch {
	case (o.URL == "") == (o.Discovery == ""):
		return errors.New("want the URL of a key set or of an issuer's configuration, one of them")
	case o.Discovery != "" && o.Issuer == "":
		return errors.New("discovery needs the issuer's name")
	case o.MaxAge != 0 && o.MaxAge < time.Minute:
		return fmt.Errorf("keys that are used for %v; want a minute at least", o.MaxAge)
	}
	if err := checkURL(cmp.Or(o.URL, o.Discovery)); err != nil {
		return err
	}
	orDefault(&o.MaxAge, 24*time.Hour)
	orDefault(&o.Refresh, 10*time.Minute)
	// Else keys would be too old though every fetch is good.
	o.Refresh = min(o.Refresh, o.MaxAge/2)
	orDefault(&o.MinInterval, 30*time.Second)
	orDefault(&o.Timeout, 5*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func orDefault(d *time.Duration, otherwise time.Duration) {
	if *d <= 0 {
		*d = otherwise
	}
}

func checkURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return fmt.Errorf("%.200q is not the URL of a key set", raw)
	}
	if u.Scheme == "https" || (u.Scheme == "http" && loopback(u.Hostname())) {
		return nil
	}
	return fmt.Errorf("%.200q: want https; keys that come in plain text can be anyone's", u.Redacted())
}

func loopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// First waits until the first fetch has ended, and returns why it was no good. Who
// puts a source in the place of another waits for it, so that no token is refused
// whose key only has not arrived yet.
func (s *Source) First(ctx context.Context) error {
	select {
	case <-s.first.done:
		return s.first.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// The most callers that wait for a fetch at once. A flood of made-up key ids
// while an issuer is silent must not keep a goroutine and a connection each.
const maxWaiting = 1024

// Keys implements auth.KeySource.
func (s *Source) Keys(ctx context.Context, alg, kid string) ([]any, error) {
	set := s.keys.Load()
	if s.tooOld(set) {
		return nil, auth.ErrKeysUnavailable
	}
	if keys, known := set.find(alg, kid); known {
		return keys, nil
	}
	if f, own := s.demand(); f != nil {
		if err := s.wait(ctx, f); err != nil {
			return nil, err
		}
		if set = s.keys.Load(); s.tooOld(set) {
			return nil, auth.ErrKeysUnavailable
		}
		if keys, known := set.find(alg, kid); known {
			return keys, nil
		}
		// That of another may have begun before the issuer had the key.
		if !own || f.err != nil {
			s.want()
		}
	}
	if set == nil || s.failed.Load() {
		// The key may be one that the issuer has and we could not get.
		return nil, auth.ErrKeysUnavailable
	}
	return nil, nil
}

func (s *Source) wait(ctx context.Context, f *fetch) error {
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > maxWaiting {
		return auth.ErrKeysUnavailable
	}
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Source) tooOld(set *keySet) bool {
	return set != nil && time.Since(set.fetched) >= s.o.MaxAge
}

// state is how long the last good fetch is ago, and how many keys are in use.
func (s *Source) state() (age time.Duration, keys int) {
	set := s.keys.Load()
	if set == nil {
		return time.Since(s.started), 0
	}
	if !s.tooOld(set) {
		keys = len(set.all)
	}
	return time.Since(set.fetched), keys
}

// Close ends the fetching and waits for it. Known keys can still be asked for.
func (s *Source) Close() {
	s.mu.Lock()
	s.closed = true
	if s.due != nil {
		s.due.Stop()
	}
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
	s.client.CloseIdleConnections()
	s.metrics.forget(s)
}
