package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
)

// ErrKeysUnavailable says that an issuer's keys cannot be had now. The token may
// well be valid, so the caller is answered UNAVAILABLE, not UNAUTHENTICATED.
var ErrKeysUnavailable = errors.New("keys of the issuer cannot be fetched")

// KeySource knows the keys of an issuer. It is used from many goroutines.
type KeySource interface {
	// Keys returns the keys that may have signed a token with the header's alg
	// and kid ("" when there is none); none at all means that the token is not
	// the issuer's. Each is a *rsa.PublicKey, *ecdsa.PublicKey,
	// ed25519.PublicKey or, for HMAC, a []byte. The error is
	// [ErrKeysUnavailable] or that of ctx.
	Keys(ctx context.Context, alg, kid string) ([]any, error)
}

// The most that is read of a key file.
const maxKeyFile = 1 << 20

// publicKeys is a KeySource that never changes; kid is not looked at.
type publicKeys []any

func (k publicKeys) Keys(context.Context, string, string) ([]any, error) { return k, nil }

func parsePublicKeys(raw []byte) ([]any, error) {
	var keys []any
	for len(bytes.TrimSpace(raw)) > 0 {
		block, rest := pem.Decode(raw)
		if block == nil {
			return nil, fmt.Errorf("no PEM block where key %d is expected", len(keys)+1)
		}
		raw = rest
		var key any
		var err error
		switch {
		case block.Type == "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case block.Type == "RSA PUBLIC KEY":
			key, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil, errors.New("holds a private key; the gateway wants the public half only")
		default:
			return nil, fmt.Errorf("holds a PEM block %q; want PUBLIC KEY", block.Type)
		}
		if err == nil {
			err = CheckKey(key)
		}
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", len(keys)+1, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("holds no PEM block")
	}
	return keys, nil
}

// CheckKey refuses public keys that are too weak to trust or of a kind that no
// accepted algorithm uses.
func CheckKey(key any) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > maxRSA {
			return fmt.Errorf("RSA key of %d bits; want 2048 to %d", n, maxRSA)
		}
		// With 1 a signature is the text itself; an even one has no inverse.
		if k.E < 3 || k.E%2 == 0 || k.E > math.MaxInt32 {
			return fmt.Errorf("RSA key with the exponent %d", k.E)
		}
		return nil
	case *ecdsa.PublicKey:
		if curveOf(k) == "" {
			return errors.New("ECDSA key on a curve other than P-256, P-384 and P-521")
		}
		if _, err := k.ECDH(); err != nil {
			return errors.New("ECDSA key that is no point of its curve")
		}
		return nil
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return fmt.Errorf("Ed25519 key of %d bytes", len(k))
		}
		if smallOrder(k) {
			return errors.New("Ed25519 key of small order, for which anyone can sign")
		}
		return nil
	default:
		return fmt.Errorf("key of type %T; want RSA, ECDSA or Ed25519", key)
	}
}

// maxRSA is in bits, and what crypto/tls takes: the cost of a forged token grows
// with the square of it.
const maxRSA = 8192

// The points of Ed25519 whose order is 8 or less, and other spellings of them
// that crypto/ed25519 reads, without the sign in the last bit: y is 0, 1, p-1, p,
// p+1 or that of the points of order 8. Zeroed memory is one of them.
var smallOrders = [][ed25519.PublicKeySize]byte{
	{},
	{1},
	lastBytes(0xec), lastBytes(0xed), lastBytes(0xee),
	{
		0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
		0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
	},
	{
		0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
		0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
	},
}

func lastBytes(first byte) (b [ed25519.PublicKeySize]byte) {
	for i := range b {
		b[i] = 0xff
	}
	b[0], b[len(b)-1] = first, 0x7f
	return b
}

func smallOrder(k ed25519.PublicKey) bool {
	y := [ed25519.PublicKeySize]byte(k)
	y[len(y)-1] &= 0x7f
	return slices.Contains(smallOrders, y)
}

func curveOf(k *ecdsa.PublicKey) string {
	switch k.Curve {
	case elliptic.P256():
		return "ES256"
	case elliptic.P384():
		return "ES384"
	case elliptic.P521():
		return "ES512"
	}
	return ""
}

// Suits says whether key may verify alg: a key of one kind is never used as
// another, which is how forgeries with a public key as HMAC secret work.
func Suits(alg string, key any) bool {
	if !slices.Contains(algorithms, alg) { // RSA-OAEP is none for signatures, whatever it begins with.
		return false
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return alg == curveOf(k)
	case ed25519.PublicKey:
		return alg == "EdDSA"
	case []byte:
		return strings.HasPrefix(alg, "HS")
	}
	return false
}

// minSecret is the least length of an HMAC secret in bytes: that of the hash
// (RFC 7518, section 3.2). An empty one would verify what anyone signs.
func minSecret(alg string) int {
	switch alg {
	case "HS512":
		return 64
	case "HS384":
		return 48
	}
	return 32
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // The operator names the file.
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // Only read.
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxKeyFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxKeyFile)
	}
	return raw, nil
}
