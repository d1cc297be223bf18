package jwks_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/auth/jwks"
)

func TestBadAnswers(t *testing.T) {
	key := edKey(t)
	good := set(edJWK("k", key))
	many := make([]jwk, 65)
	for i := range many {
		many[i] = edJWK(fmt.Sprint(i), key)
	}
	for name, h := range map[string]http.HandlerFunc{
		"500":             func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"404":             http.NotFound,
		"204":             func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
		"nothing":         text(""),
		"HTML":            text("<html>"),
		"half":            text(`{"keys":[{"kty":`),
		"no keys member":  text(`{}`),
		"keys are null":   text(`{"keys":null}`),
		"keys are a word": text(`{"keys":"x"}`),
		"oversized":       text(`{"keys":[],"pad":"` + strings.Repeat("x", 512<<10) + `"}`),
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 64<<10)); err != nil {
					return
				}
			}
		},
		"a gzip bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(bytes.Repeat([]byte(" "), 64<<20))
			_ = z.Close()
		},
		"too many keys": set(many...),
		"no key":        set(),
		"no usable key": set(jwk{"kty": "oct", "kid": "k", "k": b64([]byte(strings.Repeat("s", 32)))}),
		"a zeroed key":  set(jwk{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": b64(make([]byte, 32))}),
		"a list":        text(`[]`),
		"Keys":          text(`{"Keys":[{"kty":"OKP"}]}`),
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/there" {
				good(w, r)
				return
			}
			http.Redirect(w, r, "/there", http.StatusFound)
		},
		"a broken connection": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte(`{"keys":[`))
		},
		"silence": func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done() // Only the source's own timeout ends it.
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t, h)
			v := newVerifier(t, newSource(t, jwks.Options{URL: srv.URL, MinInterval: time.Millisecond, Timeout: 300 * time.Millisecond}))
			expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "k"), codes.Unavailable)
			srv.answer(good)
			time.Sleep(2 * time.Millisecond)
			eventually(t, func() bool {
				_, err := v.Verify(t.Context(), token(t, jwt.SigningMethodEdDSA, key, "k"))
				return err == nil
			})
		})
	}
}

func TestDeadServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	src := newSource(t, jwks.Options{URL: "http://" + addr, MinInterval: time.Hour})
	v := newVerifier(t, src)
	key := edKey(t)
	for range 100 {
		expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "k"), codes.Unavailable)
	}
	// The issuer comes up: found in the background, within the back-off.
	l, err = net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: set(edJWK("k", key)), ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	eventually(t, func() bool {
		_, err := v.Verify(t.Context(), token(t, jwt.SigningMethodEdDSA, key, "k"))
		return err == nil
	})
}

func TestUnknownKeyFlood(t *testing.T) {
	key := edKey(t)
	srv := newServer(t, set(edJWK("k", key)))
	// No timeout ends the flood's fetch: what returns before release is closed did not wait for it.
	src := newSource(t, jwks.Options{URL: srv.URL, MinInterval: time.Hour, Timeout: time.Hour})
	v := newVerifier(t, src)
	expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "k"), codes.OK)
	if n := srv.fetches.Load(); n != 1 {
		t.Fatalf("%d fetches at the start", n)
	}
	release := make(chan struct{})
	good := set(edJWK("k", key))
	srv.answer(func(w http.ResponseWriter, r *http.Request) { <-release; good(w, r) })
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			expect(t, v, token(t, jwt.SigningMethodEdDSA, key, fmt.Sprint("made-up-", i)), codes.Unauthenticated)
		})
	}
	eventually(t, func() bool { return srv.fetches.Load() == 2 })
	// While the flood waits for its one fetch, a known key does not.
	for range 20 {
		expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "k"), codes.OK)
	}
	// A caller that leaves does not wait either.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := v.Verify(ctx, token(t, jwt.SigningMethodEdDSA, key, "made-up")); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a caller that left: %v", err)
	}
	close(release)
	wg.Wait()
	for i := range 200 {
		expect(t, v, token(t, jwt.SigningMethodEdDSA, key, fmt.Sprint("again-", i)), codes.Unauthenticated)
	}
	if n := srv.fetches.Load(); n != 2 {
		t.Errorf("%d fetches, want the first and one for the flood", n)
	}
}

func TestUnknownKeyWhileTheIssuerIsDown(t *testing.T) {
	key := edKey(t)
	srv := newServer(t, set(edJWK("k", key)))
	v := newVerifier(t, newSource(t, jwks.Options{URL: srv.URL, MinInterval: time.Hour}))
	expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "k"), codes.OK)
	srv.answer(http.NotFound)
	for range 3 { // It may be the issuer's newest key: nobody can tell.
		expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "next"), codes.Unavailable)
	}
	expect(t, v, token(t, jwt.SigningMethodEdDSA, key, "k"), codes.OK)
}
