package auth_test

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// issuerKeys are an issuer's that a test changes.
type issuerKeys struct {
	keys atomic.Pointer[[]any]
	fail atomic.Bool
}

func (k *issuerKeys) Keys(context.Context, string, string) ([]any, error) {
	if k.fail.Load() {
		return nil, auth.ErrKeysUnavailable
	}
	return *k.keys.Load(), nil
}

// TestOpenCalls: what changes of itself ends open calls at the next look, and what cannot
// be told now ends none.
func TestOpenCalls(t *testing.T) {
	_, key, _ := ed25519.GenerateKey(nil)
	keys := &issuerKeys{}
	keys.keys.Store(&[]any{key.Public()})
	var now atomic.Int64
	now.Store(time.Now().Unix())
	clock := func() time.Time { return time.Unix(now.Load(), 0) }
	tokens, err := auth.NewVerifier(auth.Options{Now: clock, Issuers: []auth.Issuer{{Name: "i", Audiences: []string{"a"}, Algorithms: []string{"EdDSA"}, Keys: keys}}})
	if err != nil {
		t.Fatal(err)
	}
	text, stored, err := auth.NewAPIKey(auth.APIKey{ID: "k", Owner: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	var broken atomic.Bool
	var calls *auth.OpenCalls
	apiKeys, err := auth.NewAPIKeys(auth.APIKeysOptions{Now: clock, MaxAge: time.Hour, Load: func() ([]auth.APIKey, error) {
		if broken.Load() {
			return nil, errors.New("no file")
		}
		return []auth.APIKey{stored}, nil
	}, Changed: func() { calls.Changed() }})
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := auth.NewClientCertificates([]auth.CertificateRule{{DNS: "*.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	var distrusted atomic.Bool
	a, err := auth.NewAuthenticator(auth.AuthenticatorOptions{Now: clock, Tokens: tokens, Keys: apiKeys, Certificates: certificates,
		Trusts: func(policy.Edge, [][]*x509.Certificate) bool { return !distrusted.Load() }})
	if err != nil {
		t.Fatal(err)
	}
	calls, err = auth.NewOpenCalls(auth.OpenCallsOptions{Authenticator: func() *auth.Authenticator { return a }, Interval: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { calls.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })

	token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"iss": "i", "aud": "a", "sub": "ada", "exp": now.Load() + 86400}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	open := func(header, value string, cert *x509.Certificate) (end chan error, stop func()) {
		c := &policy.Call{Edge: policy.EdgeREST, PeerCertificate: cert, Headers: func(name string) []string {
			if strings.EqualFold(name, header) {
				return []string{value}
			}
			return nil
		}}
		if _, err := a.Authenticate(ctx, c); err != nil {
			t.Fatal(err)
		}
		end = make(chan error, 1)
		return end, calls.Watch(c, func(err error) { end <- err })
	}
	cert := certificate(t, name{dns, "ada.example.com"})
	cert.NotAfter = clock().Add(24 * time.Hour)
	byToken, _ := open("Authorization", "Bearer "+token, nil)
	byKey, _ := open("X-API-Key", text, nil)
	byCert, _ := open("", "", cert)
	byNobody, _ := open("", "", nil)
	stopped, stop := open("X-API-Key", text, nil)
	stop()
	stop()
	stays := func(when string, ends ...chan error) {
		t.Helper()
		time.Sleep(20 * time.Millisecond) // Several looks.
		for _, end := range ends {
			select {
			case err := <-end:
				t.Errorf("%s: a call ended with %v", when, err)
			default:
			}
		}
	}
	ends := func(end chan error, reason string) {
		t.Helper()
		select {
		case err := <-end:
			if status.Code(err) != codes.Unauthenticated || !strings.Contains(fmt.Sprint(status.Convert(err).Details()), reason) {
				t.Errorf("ended with %v, want %s", err, reason)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("still open; want %s", reason)
		}
	}
	now.Add(600) // What was verified is forgotten: the keys are asked again.
	keys.fail.Store(true)
	stays("keys unavailable", byToken, byKey, byCert, byNobody)
	keys.fail.Store(false)
	stays("nothing changed", byToken, byKey, byCert, byNobody)
	other, _, _ := ed25519.GenerateKey(nil)
	keys.keys.Store(&[]any{other})
	now.Add(600)
	ends(byToken, "TOKEN_INVALID")
	distrusted.Store(true)
	ends(byCert, "CERTIFICATE_UNTRUSTED")
	broken.Store(true)
	_ = apiKeys.Reload()
	stays("the file is lost", byKey, byNobody)
	now.Add(3600)
	_ = apiKeys.Reload()
	ends(byKey, "API_KEY_INVALID")
	stays("at last", byNobody, stopped)
}
