package jwks_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/auth/jwks"
)

// The tests of this file run in bubbles of testing/synctest: hours pass at once,
// a fetch takes exactly as long as the issuer sleeps, and who does not wait does
// not wait at all.

// remote is an issuer without a network.
type remote struct {
	mu      sync.Mutex
	handler http.HandlerFunc
	latency time.Duration
	fetches []time.Time
}

func (r *remote) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	handler, latency := r.handler, r.latency
	r.fetches = append(r.fetches, time.Now())
	r.mu.Unlock()
	select {
	case <-time.After(latency):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	if handler == nil {
		return nil, errors.New("connection refused")
	}
	rec := httptest.NewRecorder()
	handler(rec, req)
	res := rec.Result()
	res.Body = io.NopCloser(bytes.NewReader(rec.Body.Bytes()))
	return res, nil
}

func (r *remote) answer(h http.HandlerFunc, latency time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handler, r.latency = h, latency
}

func (r *remote) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.fetches)
}

// times are when the fetches began; another may begin meanwhile.
func (r *remote) times() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.fetches)
}

// bubble runs f with a source that holds the key "known" since this moment.
func bubble(t *testing.T, o jwks.Options, f func(t *testing.T, r *remote, s *jwks.Source, known ed25519.PrivateKey)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		key := edKey(t)
		r := &remote{handler: set(edJWK("known", key))}
		o.URL, o.Issuer = "https://issuer.example/jwks.json", issuer
		s, err := jwks.NewWith(o, r)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		synctest.Wait()
		f(t, r, s, key)
	})
}

// keysNow asks for keys and expects the answer without a wait.
func keysNow(t *testing.T, s *jwks.Source, kid string) (bool, error) {
	t.Helper()
	before := time.Now()
	keys, err := s.Keys(t.Context(), "EdDSA", kid)
	if took := time.Since(before); took != 0 {
		t.Errorf("%v: the answer about %q took %v", before, kid, took)
	}
	return len(keys) == 1, err
}

func TestNewKeyIsFoundWithoutItsTokenComingAgain(t *testing.T) {
	bubble(t, jwks.Options{}, func(t *testing.T, r *remote, s *jwks.Source, known ed25519.PrivateKey) {
		if found, err := keysNow(t, s, "made-up"); found || err != nil { // The fetch that is allowed.
			t.Fatal(found, err)
		}
		time.Sleep(time.Second)
		r.answer(set(edJWK("known", known), edJWK("next", edKey(t))), 0)
		for range 3 {
			if found, err := keysNow(t, s, "next"); found || err != nil {
				t.Fatal(found, err)
			}
		}
		time.Sleep(29*time.Second - 1)
		if n := r.count(); n != 2 {
			t.Fatalf("%d fetches within the interval", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if n := r.count(); n != 3 {
			t.Fatalf("%d fetches at its end", n)
		}
		if found, err := keysNow(t, s, "next"); !found || err != nil {
			t.Error(found, err)
		}
		// The due fetch is done with: no other follows but the refresh.
		time.Sleep(9 * time.Minute)
		if n := r.count(); n != 3 {
			t.Errorf("%d fetches later", n)
		}
	})
}

// A caller that joins a fetch may have its key published while that goes on.
func TestNewKeyOfACallerThatJoined(t *testing.T) {
	bubble(t, jwks.Options{}, func(t *testing.T, r *remote, s *jwks.Source, known ed25519.PrivateKey) {
		r.answer(set(edJWK("known", known)), 4*time.Second)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = s.Keys(t.Context(), "EdDSA", "made-up") })
		time.Sleep(time.Second)
		r.answer(set(edJWK("known", known), edJWK("next", edKey(t))), 0)
		if keys, err := s.Keys(t.Context(), "EdDSA", "next"); len(keys) != 0 || err != nil {
			t.Fatal(keys, err)
		}
		wg.Wait()
		time.Sleep(26 * time.Second)
		synctest.Wait()
		if n := r.count(); n != 3 { // Before anyone asks again.
			t.Errorf("%d fetches", n)
		}
		if found, err := keysNow(t, s, "next"); !found || err != nil {
			t.Error(found, err)
		}
	})
}

func TestDemandedFetchThatFailsIsTriedAgain(t *testing.T) {
	bubble(t, jwks.Options{}, func(t *testing.T, r *remote, s *jwks.Source, known ed25519.PrivateKey) {
		r.answer(nil, 0)
		if _, err := keysNow(t, s, "next"); !errors.Is(err, auth.ErrKeysUnavailable) {
			t.Fatal(err)
		}
		r.answer(set(edJWK("known", known), edJWK("next", edKey(t))), 0)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if n := r.count(); n != 3 { // Before anyone asks again.
			t.Errorf("%d fetches", n)
		}
		if found, err := keysNow(t, s, "next"); !found || err != nil {
			t.Error(found, err)
		}
	})
}

func TestFloodOverTime(t *testing.T) {
	bubble(t, jwks.Options{Refresh: 24 * time.Hour}, func(t *testing.T, r *remote, s *jwks.Source, known ed25519.PrivateKey) {
		r.answer(set(edJWK("known", known)), 4*time.Second)
		began := time.Now()
		var flood sync.WaitGroup
		for n := range 6000 { // Ten minutes.
			for i := range 3 {
				flood.Go(func() {
					if keys, err := s.Keys(t.Context(), "EdDSA", fmt.Sprint(n, "-", i)); len(keys) != 0 || err != nil {
						t.Errorf("%v, %v", keys, err)
					}
				})
			}
			if found, err := keysNow(t, s, "known"); !found || err != nil {
				t.Fatal(found, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		flood.Wait()
		if n := r.count(); n < 20 || n > 22 {
			t.Errorf("%d fetches in ten minutes", n)
		}
		last := began
		for _, at := range r.times()[2:] {
			if at.Sub(last) < 30*time.Second {
				t.Errorf("a fetch %v after the last", at.Sub(last))
			}
			last = at
		}
	})
}

func TestCallersWithOneUnknownKeyShareAFetch(t *testing.T) {
	bubble(t, jwks.Options{}, func(t *testing.T, r *remote, s *jwks.Source, known ed25519.PrivateKey) {
		r.answer(set(edJWK("known", known), edJWK("next", edKey(t))), 4*time.Second)
		var wg sync.WaitGroup
		for range 500 {
			wg.Go(func() {
				if keys, err := s.Keys(t.Context(), "EdDSA", "next"); len(keys) != 1 || err != nil {
					t.Errorf("%v, %v", keys, err)
				}
			})
		}
		wg.Wait()
		time.Sleep(5 * time.Minute)
		if n := r.count(); n != 2 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestCallersThatWaitAreBounded(t *testing.T) {
	bubble(t, jwks.Options{}, func(t *testing.T, r *remote, s *jwks.Source, _ ed25519.PrivateKey) {
		r.answer(nil, time.Hour) // Silence, until the timeout.
		var mu sync.Mutex
		took := map[time.Duration]int{}
		var wg sync.WaitGroup
		for i := range 3000 {
			wg.Go(func() {
				before := time.Now()
				if _, err := s.Keys(t.Context(), "EdDSA", fmt.Sprint(i)); !errors.Is(err, auth.ErrKeysUnavailable) {
					t.Errorf("%v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				took[time.Since(before)]++
			})
		}
		wg.Wait()
		if took[0] != 3000-jwks.MaxWaiting || took[5*time.Second] != jwks.MaxWaiting {
			t.Errorf("callers by their wait: %v", took)
		}
	})
}

func TestStaleKeys(t *testing.T) {
	key := edKey(t)
	for name, bad := range map[string]http.HandlerFunc{
		"dead":          nil,
		"empty":         text(""),
		"no keys":       set(),
		"oversized":     text(`{"keys":[],"pad":"` + string(bytes.Repeat([]byte("x"), 512<<10)) + `"}`),
		"unparsable":    text("<html>"),
		"no usable key": set(jwk{"kty": "oct", "k": b64(make([]byte, 32))}),
		"500":           func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			o, limit := jwks.Options{Metrics: reg}, 24*time.Hour // By default.
			if bad != nil {
				o.MaxAge, limit = time.Hour, time.Hour
			}
			bubble(t, o, func(t *testing.T, r *remote, s *jwks.Source, known ed25519.PrivateKey) {
				began := time.Now()
				r.answer(bad, 0)
				for time.Since(began) < limit-time.Minute {
					if found, err := keysNow(t, s, "known"); !found || err != nil {
						t.Fatalf("after %v: %v, %v", time.Since(began), found, err)
					}
					time.Sleep(time.Minute)
				}
				time.Sleep(time.Minute - 1)
				if found, err := keysNow(t, s, "known"); !found || err != nil {
					t.Fatalf("at the last moment: %v, %v", found, err)
				}
				gauges(t, reg, 1, limit-1)
				time.Sleep(time.Nanosecond)
				r.answer(bad, 4*time.Second) // Who waits now would be seen.
				time.Sleep(time.Minute)
				for _, kid := range []string{"known", "unknown", ""} {
					if _, err := keysNow(t, s, kid); !errors.Is(err, auth.ErrKeysUnavailable) {
						t.Errorf("kid %q: %v", kid, err)
					}
				}
				gauges(t, reg, 0, limit+time.Minute)
				r.answer(set(edJWK("known", known), edJWK("k", key)), 0)
				time.Sleep(35 * time.Second)
				for _, kid := range []string{"known", "k"} {
					if found, err := keysNow(t, s, kid); !found || err != nil {
						t.Errorf("kid %q is not back: %v", kid, err)
					}
				}
			})
		})
	}
}

func gauges(t *testing.T, reg *prometheus.Registry, keys int, age time.Duration) {
	t.Helper()
	if got := sample(t, reg, "sluice_jwks_keys", issuer, ""); got != float64(keys) {
		t.Errorf("%v keys in use, want %d", got, keys)
	}
	if got := sample(t, reg, "sluice_jwks_keys_age_seconds", issuer, ""); got != age.Seconds() {
		t.Errorf("age %v s, want %v", got, age.Seconds())
	}
}

// Keys of a healthy issuer never grow too old, however short they may live.
func TestRefreshIsSoonerThanMaxAge(t *testing.T) {
	bubble(t, jwks.Options{MaxAge: time.Minute}, func(t *testing.T, _ *remote, s *jwks.Source, _ ed25519.PrivateKey) {
		for range 3600 {
			if found, err := keysNow(t, s, "known"); !found || err != nil {
				t.Fatal(found, err)
			}
			time.Sleep(time.Second)
		}
	})
}

// A withdrawn key is forgotten at the next refresh, and a token that was
// verified by it five minutes after the last time it was.
func TestWithdrawnKey(t *testing.T) {
	bubble(t, jwks.Options{}, func(t *testing.T, r *remote, s *jwks.Source, known ed25519.PrivateKey) {
		v, err := auth.NewVerifier(auth.Options{Issuers: []auth.Issuer{
			{Name: issuer, Audiences: []string{audience}, Algorithms: []string{"EdDSA"}, Keys: s},
		}})
		if err != nil {
			t.Fatal(err)
		}
		tok := token(t, jwt.SigningMethodEdDSA, known, "known")
		expect(t, v, tok, codes.OK)
		r.answer(set(edJWK("next", edKey(t))), 0)
		time.Sleep(5 * time.Minute)
		expect(t, v, tok, codes.OK) // Verified anew, by the old set.
		time.Sleep(5*time.Minute - 1)
		expect(t, v, tok, codes.OK) // Remembered.
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		expect(t, v, tok, codes.Unauthenticated)
	})
}

func TestCallerThatLeaves(t *testing.T) {
	bubble(t, jwks.Options{}, func(t *testing.T, r *remote, s *jwks.Source, _ ed25519.PrivateKey) {
		r.answer(nil, time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		before := time.Now()
		_, err := s.Keys(ctx, "EdDSA", "unknown")
		if status.FromContextError(err).Code() != codes.DeadlineExceeded || time.Since(before) != time.Second {
			t.Errorf("%v after %v", err, time.Since(before))
		}
	})
}
