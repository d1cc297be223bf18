package kit_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
)

// hmacToken signs with a secret what HS256 takes for one.
func hmacToken(t *testing.T, secret []byte, c jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// reheaded gives a token another header; its signature stays.
func reheaded(token, header string) string {
	_, rest, _ := strings.Cut(token, ".")
	return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + rest
}

// TestForgedIdentity calls a service as somebody who reaches it without the
// gateway: whatever the caller says of itself, it is UNAUTHENTICATED.
func TestForgedIdentity(t *testing.T) {
	over(t, func(t *testing.T, c *kittest.Conn, _ *logBuffer) {
		root := claims(jwt.MapClaims{"sub": "root", "scope": "admin", "aud": []string{testService}})
		but := func(changes jwt.MapClaims) jwt.MapClaims {
			all := claims(root)
			for k, v := range changes {
				if all[k] = v; v == nil {
					delete(all, k)
				}
			}
			return all
		}
		good := c.Signer().Sign(t, root)
		stranger := kittest.NewSigner(t)
		public := c.Signer().Public
		none, err := jwt.NewWithClaims(jwt.SigningMethodNone, root).SignedString(jwt.UnsafeAllowNoneSignatureType)
		if err != nil {
			t.Fatal(err)
		}
		ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
		attacks := map[string]metadata.MD{
			"nothing":                       {},
			"an empty assertion":            {kit.AssertionKey: {""}},
			"garbage":                       {kit.AssertionKey: {"root"}},
			"three empty parts":             {kit.AssertionKey: {".."}},
			"json":                          {kit.AssertionKey: {`{"sub":"root"}`}},
			"alg none":                      {kit.AssertionKey: {none}},
			"alg none over a good one":      {kit.AssertionKey: {reheaded(good, `{"alg":"none"}`)}},
			"alg of another case":           {kit.AssertionKey: {reheaded(good, `{"alg":"eddsa"}`)}},
			"no alg":                        {kit.AssertionKey: {reheaded(good, `{}`)}},
			"no signature":                  {kit.AssertionKey: {good[:strings.LastIndexByte(good, '.')+1]}},
			"HS256 with the public key":     {kit.AssertionKey: {hmacToken(t, public, root)}},
			"HS256 with its PEM":            {kit.AssertionKey: {hmacToken(t, publicPEM(t, public), root)}},
			"HS256 with nothing":            {kit.AssertionKey: {hmacToken(t, nil, root)}},
			"another's key":                 {kit.AssertionKey: {stranger.Sign(t, root)}},
			"another's key in the header":   {kit.AssertionKey: {withKey(t, stranger, root)}},
			"another service's":             {kit.AssertionKey: {c.Signer().Sign(t, but(jwt.MapClaims{"aud": "shop.user.v1.UserService"}))}},
			"for a prefix of the service":   {kit.AssertionKey: {c.Signer().Sign(t, but(jwt.MapClaims{"aud": testService[:len(testService)-1]}))}},
			"for nobody":                    {kit.AssertionKey: {c.Signer().Sign(t, but(jwt.MapClaims{"aud": nil}))}},
			"expired":                       {kit.AssertionKey: {c.Signer().Sign(t, but(jwt.MapClaims{"iat": ago(2 * time.Minute), "exp": ago(time.Minute)}))}},
			"without an end":                {kit.AssertionKey: {c.Signer().Sign(t, but(jwt.MapClaims{"exp": nil}))}},
			"not valid yet":                 {kit.AssertionKey: {c.Signer().Sign(t, but(jwt.MapClaims{"nbf": ago(-time.Minute)}))}},
			"of another issuer":             {kit.AssertionKey: {c.Signer().Sign(t, but(jwt.MapClaims{"iss": "sluice-dev"}))}},
			"the same twice":                {kit.AssertionKey: {good, good}},
			"a good one and a forged one":   {kit.AssertionKey: {good, stranger.Sign(t, root)}},
			"a forged one and a good one":   {kit.AssertionKey: {stranger.Sign(t, root), good}},
			"a good one and an empty one":   {kit.AssertionKey: {good, ""}},
			"two in one value":              {kit.AssertionKey: {good + "," + good}},
			"as a bearer token":             {"authorization": {"Bearer " + good}},
			"in a key of another name":      {"x-sluice-assertion-bin": {good}, "grpc-metadata-x-sluice-assertion": {good}, "x_sluice_assertion": {good}},
			"the names that others believe": {"x-user-id": {"root"}, "x-forwarded-user": {"root"}, "x-remote-user": {"root"}, "x-auth-request-user": {"root"}, "x-scopes": {"admin"}, "x-tenant": {"acme"}, "grpc-metadata-x-user-id": {"root"}},
		}
		for name, md := range attacks {
			for kind, call := range calls {
				t.Run(name+"/"+kind, func(t *testing.T) {
					for range 2 { // Nothing forged is remembered as good.
						ctx := metadata.NewOutgoingContext(t.Context(), md)
						resp, err := call(ctx, c, &testv1.EchoRequest{Id: "x"})
						st := status.Convert(err)
						if st.Code() != grpccodes.Unauthenticated || resp.GetSubject() != "" {
							t.Fatalf("answer = %v, %v, want UNAUTHENTICATED", resp, err)
						}
						for _, value := range md.Get(kit.AssertionKey) {
							if len(value) > 8 && strings.Contains(st.Message(), value) {
								t.Errorf("the answer %q holds the assertion", st.Message())
							}
						}
					}
				})
			}
		}
		// Beside a good assertion the names mean nothing.
		for kind, call := range calls {
			md := metadata.Join(attacks["the names that others believe"], metadata.MD{kit.AssertionKey: {c.Signer().Token(t, kit.Caller{Subject: "ada"}, testService)}})
			resp, err := call(metadata.NewOutgoingContext(t.Context(), md), c, &testv1.EchoRequest{Id: "x"})
			if err != nil || resp.GetSubject() != "ada" || len(resp.GetScopes()) != 0 {
				t.Errorf("%s: answer = %v, %v", kind, resp, err)
			}
		}
		// What the cases above are made from is good: it is the forgery that fails.
		for kind, call := range calls {
			ctx := metadata.NewOutgoingContext(context.WithoutCancel(t.Context()), metadata.MD{kit.AssertionKey: {good}})
			if resp, err := call(ctx, c, &testv1.EchoRequest{Id: "x"}); err != nil || resp.GetSubject() != "root" {
				t.Errorf("%s: answer = %v, %v", kind, resp, err)
			}
		}
	})
}

// withKey is a token that brings the key that verifies it.
func withKey(t *testing.T, s *kittest.Signer, c jwt.MapClaims) string {
	t.Helper()
	jwk := map[string]string{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(s.Public)}
	return s.SignWith(t, map[string]any{"jwk": jwk, "jku": "http://127.0.0.1:1/keys", "kid": "../../dev/null"}, c)
}

func TestVerifierFollowsItsKeys(t *testing.T) {
	old, next := kittest.NewSigner(t), kittest.NewSigner(t)
	keys := []ed25519.PublicKey{old.Public}
	verifier, err := kit.NewVerifierFunc(func() []ed25519.PublicKey { return keys })
	if err != nil {
		t.Fatal(err)
	}
	ofOld, ofNext := old.Sign(t, claims(nil)), next.Sign(t, claims(nil))
	for _, step := range []struct {
		name      string
		keys      []ed25519.PublicKey
		old, next bool
	}{
		{"old alone", []ed25519.PublicKey{old.Public}, true, false},
		{"both", []ed25519.PublicKey{old.Public, next.Public}, true, true},
		{"the other first", []ed25519.PublicKey{next.Public, old.Public}, true, true},
		{"next alone: what is remembered of the old key counts no more", []ed25519.PublicKey{next.Public}, false, true},
		{"none: nobody is let in", nil, false, false},
		{"a broken key", []ed25519.PublicKey{next.Public[:31]}, false, false},
		{"back again", []ed25519.PublicKey{old.Public}, true, false},
	} {
		keys = step.keys
		for range 2 {
			if _, err := verifier.Verify(ofOld, audience); (err == nil) != step.old {
				t.Errorf("%s: of the old key: %v", step.name, err)
			}
			if _, err := verifier.Verify(ofNext, audience); (err == nil) != step.next {
				t.Errorf("%s: of the next key: %v", step.name, err)
			}
		}
	}
}

func TestCallerHasATenant(t *testing.T) {
	signer := kittest.NewSigner(t)
	verifier, err := kit.NewVerifier(signer.Public)
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"acme", ""} {
		for range 2 {
			c, err := verifier.Verify(signer.Token(t, kit.Caller{Subject: "ada", Tenant: tenant}, audience), audience)
			if err != nil || c.Tenant != tenant || c.Belongs("acme") != (tenant == "acme") || c.Belongs("") || c.Belongs("other") {
				t.Errorf("caller %+v, %v", c, err)
			}
		}
	}
	if (kit.Caller{Subject: "root", Scopes: []string{"admin"}}).Belongs("acme") {
		t.Error("an admin is of every tenant")
	}
}

// FuzzVerify: nobody but the gateway's key can make what is accepted.
func FuzzVerify(f *testing.F) {
	signer := kittest.NewSigner(f)
	verifier, err := kit.NewVerifier(signer.Public)
	if err != nil {
		f.Fatal(err)
	}
	c := claims(nil)
	c["exp"] = time.Now().Add(time.Hour).Unix()
	good := signer.Sign(f, c)
	for _, seed := range []string{good, "", "..", good + "=", good[:len(good)-1], good + ".x", reheaded(good, `{"alg":"none"}`), reheaded(good, `{"alg":"HS256"}`), reheaded(good, `{"alg":["EdDSA"]}`)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		caller, err := verifier.Verify(token, audience)
		if (err == nil) != (token == good) {
			t.Fatalf("%q: %v, %v", token, caller, err)
		}
		if err != nil && (caller.Subject != "" || caller.Scopes != nil || caller.Tenant != "") {
			t.Fatalf("refused as %+v", caller)
		}
	})
}
