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
	"os"
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

// PublicKeyFiles reads PEM files with one or more public keys each (PKIX, or
// PKCS#1 for RSA): RSA of 2048 bits or more, ECDSA on P-256, P-384 or P-521,
// Ed25519. Anything else in a file is an error.
func PublicKeyFiles(paths ...string) (KeySource, error) {
	var keys publicKeys
	for _, path := range paths {
		raw, err := readFile(path)
		if err != nil {
			return nil, err
		}
		found, err := parsePublicKeys(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		keys = append(keys, found...)
	}
	if len(keys) == 0 {
		return nil, errors.New("no file with public keys is named")
	}
	return keys, nil
}

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
		if n := k.N.BitLen(); n < 2048 || n > 16384 {
			return fmt.Errorf("RSA key of %d bits; want 2048 to 16384", n)
		}
		return nil
	case *ecdsa.PublicKey:
		if curveOf(k) == "" {
			return errors.New("ECDSA key on a curve other than P-256, P-384 and P-521")
		}
		return nil
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return fmt.Errorf("Ed25519 key of %d bytes", len(k))
		}
		return nil
	default:
		return fmt.Errorf("key of type %T; want RSA, ECDSA or Ed25519", key)
	}
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

// suits says whether key may verify alg: a key of one kind is never used as
// another, which is how forgeries with a public key as HMAC secret work.
func suits(alg string, key any) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return alg != "" && alg == curveOf(k)
	case ed25519.PublicKey:
		return alg == "EdDSA"
	case []byte:
		return strings.HasPrefix(alg, "HS")
	}
	return false
}

// secret is the HMAC key of an issuer.
type secret []byte

func (s secret) Keys(context.Context, string, string) ([]any, error) { return []any{[]byte(s)}, nil }

// The least length of an HMAC secret, in bytes (RFC 7518, section 3.2). An
// empty one would verify what anyone signs.
const minSecret = 32

// SecretFile reads an HMAC secret: the bytes of the file as they stand, a last
// newline included. Fewer than 32 are an error.
func SecretFile(path string) (KeySource, error) {
	raw, err := readFile(path)
	if err != nil {
		return nil, err
	}
	if len(raw) < minSecret {
		return nil, fmt.Errorf("%s: an HMAC secret of %d bytes; want %d at least", path, len(raw), minSecret)
	}
	return secret(raw), nil
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
