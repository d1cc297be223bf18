package auth_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/auth"
)

func TestPublicKeyFiles(t *testing.T) {
	k := newKeys()
	weak := weakRSA(t)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k.ed)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	for name, tc := range map[string]struct {
		parts [][]byte
		keys  int
		want  string
	}{
		"one":                {parts: [][]byte{publicPEM(k.ed.Public())}, keys: 1},
		"three":              {parts: [][]byte{k.rsaPEM, publicPEM(k.p256.Public()), []byte("\n\n"), publicPEM(k.ed.Public())}, keys: 3},
		"PKCS#1":             {parts: [][]byte{block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&k.rsa.PublicKey))}, keys: 1},
		"empty":              {parts: [][]byte{[]byte(" \n")}, want: "holds no PEM block"},
		"not PEM":            {parts: [][]byte{[]byte("hello")}, want: "no PEM block where key 1"},
		"rubbish at the end": {parts: [][]byte{k.rsaPEM, []byte("hello")}, want: "no PEM block where key 2"},
		"private key":        {parts: [][]byte{block("PRIVATE KEY", private)}, want: "holds a private key"},
		"certificate":        {parts: [][]byte{block("CERTIFICATE", []byte("x"))}, want: `holds a PEM block "CERTIFICATE"`},
		"bad DER":            {parts: [][]byte{block("PUBLIC KEY", []byte("x"))}, want: "key 1: "},
		"RSA of 1024 bits":   {parts: [][]byte{publicPEM(weak)}, want: "RSA key of 1024 bits"},
		"an exponent of 1":   {parts: [][]byte{publicPEM(&rsa.PublicKey{N: k.rsa.N, E: 1})}, want: "RSA key with the exponent 1"},
		"an even exponent":   {parts: [][]byte{publicPEM(&rsa.PublicKey{N: k.rsa.N, E: 65536})}, want: "RSA key with the exponent 65536"},
		"RSA of 8200 bits":   {parts: [][]byte{publicPEM(&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 8199), E: 3})}, want: "RSA key of 8200 bits"},
		"a zeroed Ed25519":   {parts: [][]byte{publicPEM(ed25519.PublicKey(make([]byte, 32)))}, want: "small order"},
		"P-224":              {parts: [][]byte{publicPEM(k.ed.Public()), publicPEM(p224.Public())}, want: "key 2: ECDSA key on a curve"},
		"too large":          {parts: [][]byte{[]byte(strings.Repeat("x", 1<<20+1))}, want: "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, tc.parts...)
			src, err := auth.PublicKeyFiles(path)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), path) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := src.Keys(t.Context(), "", ""); len(got) != tc.keys {
				t.Errorf("%d keys, want %d", len(got), tc.keys)
			}
		})
	}
	if _, err := auth.PublicKeyFiles(); err == nil {
		t.Error("no file at all was accepted")
	}
	if _, err := auth.PublicKeyFiles(filepath.Join(t.TempDir(), "nope")); err == nil {
		t.Error("a file that is not there was accepted")
	}
}

// weakRSA is a public key whose modulus has 1024 bits; crypto/rsa makes none.
func weakRSA(t *testing.T) *rsa.PublicKey {
	t.Helper()
	n, err := rand.Prime(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return &rsa.PublicKey{N: n, E: 65537}
}

func TestSecretFile(t *testing.T) {
	for name, tc := range map[string]struct {
		content string
		ok      bool
	}{
		"32 bytes":                        {strings.Repeat("s", 32), true},
		"a last newline is a byte":        {strings.Repeat("s", 31) + "\n", true},
		"31 bytes":                        {strings.Repeat("s", 31), false},
		"empty, which verifies forgeries": {"", false},
		"a public key, which all know":    {string(newKeys().rsaPEM), false},
	} {
		t.Run(name, func(t *testing.T) {
			src, err := auth.SecretFile(write(t, []byte(tc.content)))
			if (err == nil) != tc.ok {
				t.Fatal(err)
			}
			if !tc.ok {
				if tc.content != "" && strings.Contains(err.Error(), tc.content) {
					t.Error("the error tells the secret")
				}
				return
			}
			got, _ := src.Keys(t.Context(), "HS256", "")
			if b, _ := got[0].([]byte); string(b) != tc.content {
				t.Errorf("key %v", got)
			}
		})
	}
}

// A key of small order has signatures that anyone can make: R the neutral point
// and S nothing, for one text in eight at least. Each that crypto/ed25519 would
// take is refused, and the list of them has all spellings.
func TestKeysOfSmallOrder(t *testing.T) {
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	var ys []*big.Int
	for y := range int64(20) { // Beyond p, and around 0.
		ys = append(ys, big.NewInt(y), new(big.Int).Add(p, big.NewInt(y-2)))
	}
	for _, hex := range []string{ // Of order 8: y² is a root of the curve's d y⁴ + 2 y² - 1.
		"05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826",
		"7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7",
	} {
		y, ok := new(big.Int).SetString(hex, 16)
		if !ok {
			t.Fatal(hex)
		}
		ys = append(ys, y)
	}
	forged := make([]byte, ed25519.SignatureSize)
	forged[0] = 1
	weak := 0
	for _, y := range ys {
		if y.BitLen() > 255 {
			continue
		}
		for _, sign := range []byte{0, 0x80} {
			key := ed25519.PublicKey(y.FillBytes(make([]byte, 32)))
			slices.Reverse(key)
			key[31] |= sign
			forgeable := false
			for i := range 200 {
				forgeable = forgeable || ed25519.Verify(key, fmt.Append(nil, i), forged)
			}
			if forgeable {
				weak++
			}
			if err := auth.CheckKey(key); (err == nil) == forgeable {
				t.Errorf("key %x: forgeable %v, %v", []byte(key), forgeable, err)
			}
		}
	}
	if weak != 14 {
		t.Errorf("%d spellings of keys of small order, want 14", weak)
	}
}

func TestSuits(t *testing.T) {
	k := newKeys()
	keys := map[string]any{"RSA": &k.rsa.PublicKey, "P-256": &k.p256.PublicKey, "P-384": &k.p384.PublicKey, "Ed25519": k.ed.Public(), "secret": []byte(hmacSecret)}
	suited := map[string]string{
		"RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
		"ES256": "P-256", "ES384": "P-384", "ES512": "", "EdDSA": "Ed25519", "HS256": "secret", "HS384": "secret", "HS512": "secret",
		"none": "", "": "", "es256": "",
	}
	for alg, want := range suited {
		for kind, key := range keys {
			if got := auth.Suits(alg, key); got != (kind == want) {
				t.Errorf("%s by a key of kind %s: %v", alg, kind, got)
			}
		}
	}
}

// A source that hands out keys of every kind makes none of them another kind's.
func TestKeysOfOtherKindsAreNotTried(t *testing.T) {
	k := newKeys()
	v := verifierOf(t, &source{keys: []any{&k.rsa.PublicKey, &k.p256.PublicKey, &k.p384.PublicKey}}, newClock().Now)
	_, err := verify(v, signed(t, jwt.SigningMethodEdDSA, k.ed, good()))
	want(t, err, codes.Unauthenticated, "TOKEN_INVALID", "")
	if why := auth.Why(err); strings.Contains(why, "ed25519") || strings.Contains(why, "key") {
		t.Errorf("a key of another kind was tried: %s", why)
	}
}
