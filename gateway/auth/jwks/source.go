// Package jwks fetches an issuer's keys over HTTP: a JSON Web Key Set (RFC 7517)
// as an auth.KeySource. It is apart from gateway/auth because it fetches, which
// that package does not.
package jwks

import (
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

	"github.com/sluice-gateway/sluice/gateway/auth"
)

// Options make a Source. Zero durations mean their defaults.
type Options struct {
	// URL of the key set: https, or http on a loopback address. Who can change
	// what it answers can forge tokens.
	URL string
	// Refresh is the time from one good fetch to the next; default 10 minutes.
	// Failed ones are tried again after 1 s, 2 s, … 30 s.
	Refresh time.Duration
	// MinInterval is the least time between fetches that tokens with unknown key
	// ids cause; default 30 s.
	MinInterval time.Duration
	// Timeout of a fetch; default 5 s. A token whose key is unknown waits no
	// longer than this.
	Timeout time.Duration
	// Log is told of failed fetches; nil means nobody is.
	Log *slog.Logger
}

// Source holds the keys of a set, fetched in the background. A token with a
// known key id never waits for a fetch. While the set cannot be fetched the keys
// of the last good fetch are used. It is safe for concurrent use.
type Source struct {
	o      Options
	client *http.Client
	ctx    context.Context // Of the fetches; ended by Close.
	cancel context.CancelFunc
	wg     sync.WaitGroup

	keys   atomic.Pointer[keySet] // nil until the first good fetch.
	failed atomic.Bool            // The last fetch was no good.

	mu       sync.Mutex
	current  *fetch // nil while none is going on.
	demanded time.Time
	closed   bool
}

// fetch is one that goes on; err is set when done is closed.
type fetch struct {
	done chan struct{}
	err  error
}

// New starts to fetch and returns at once: a gateway starts though an issuer is
// down. Its tokens are then answered UNAVAILABLE. Close ends it.
func New(o Options) (*Source, error) {
	if err := checkURL(o.URL); err != nil {
		return nil, err
	}
	orDefault(&o.Refresh, 10*time.Minute)
	orDefault(&o.MinInterval, 30*time.Second)
	orDefault(&o.Timeout, 5*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Source{o: o, client: newClient(o.Timeout)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	first := s.start()
	s.wg.Add(1)
	go s.refresh(first)
	return s, nil
}

func orDefault(d *time.Duration, otherwise time.Duration) {
	if *d <= 0 {
		*d = otherwise
	}
}

func checkURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return fmt.Errorf("%q is not the URL of a key set", raw)
	}
	ip := net.ParseIP(u.Hostname())
	switch {
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (u.Hostname() == "localhost" || ip.IsLoopback()):
		return nil
	}
	return fmt.Errorf("%q: want https; keys that come in plain text can be anyone's", raw)
}

// Keys implements auth.KeySource.
func (s *Source) Keys(ctx context.Context, alg, kid string) ([]any, error) {
	if keys, known := s.keys.Load().find(alg, kid); known {
		return keys, nil
	}
	if f := s.demand(); f != nil {
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	set := s.keys.Load()
	if keys, known := set.find(alg, kid); known {
		return keys, nil
	}
	if set == nil || s.failed.Load() {
		// The key may be one that the issuer has and we could not get.
		return nil, auth.ErrKeysUnavailable
	}
	return nil, nil
}

// Close ends the fetching and waits for it. Known keys can still be asked for.
func (s *Source) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
	s.client.CloseIdleConnections()
}

// demand is a fetch on behalf of an unknown key id: the one that goes on, or a
// new one if the last that was demanded is long enough ago, or nil. A flood of
// made-up ids costs the issuer no more than that.
func (s *Source) demand() *fetch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		return s.current
	}
	now := time.Now()
	if s.closed || (!s.demanded.IsZero() && now.Sub(s.demanded) < s.o.MinInterval) {
		return nil
	}
	s.demanded = now
	return s.startLocked()
}

// start begins a fetch, or joins the one that goes on; nil after Close.
func (s *Source) start() *fetch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		return s.current
	}
	if s.closed {
		return nil
	}
	return s.startLocked()
}

func (s *Source) startLocked() *fetch {
	f := &fetch{done: make(chan struct{})}
	s.current = f
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		var set *keySet
		set, f.err = s.get()
		if f.err == nil {
			s.keys.Store(set)
		} else if !errors.Is(f.err, context.Canceled) {
			s.o.Log.Warn("fetch of a key set failed", "url", s.o.URL, "error", f.err)
		}
		s.failed.Store(f.err != nil)
		s.mu.Lock()
		s.current = nil
		s.mu.Unlock()
		close(f.done)
	}()
	return f
}

// refresh fetches again and again until Close.
func (s *Source) refresh(f *fetch) {
	defer s.wg.Done()
	const least, most = time.Second, 30 * time.Second
	retry := least
	for f != nil {
		select {
		case <-f.done:
		case <-s.ctx.Done():
			return
		}
		wait := s.o.Refresh
		if f.err != nil {
			wait = min(retry, s.o.Refresh)
			retry = min(2*retry, most)
		} else {
			retry = least
		}
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			return
		}
		f = s.start()
	}
}
