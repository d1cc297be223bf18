package jwks

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/gateway/auth"
)

// Why a key of a set is skipped, as the metric and the log name it.
const (
	skippedMalformed   = "malformed"   // what makes the key is missing or unreadable
	skippedUnsupported = "unsupported" // a type, curve or algorithm that no token here uses
	skippedOtherUse    = "other_use"   // the issuer says that it verifies no signatures
	skippedWeak        = "weak"        // auth.CheckKey refuses it
	skippedCertificate = "certificate" // its certificate holds another key
)

var skipReasons = []string{skippedMalformed, skippedUnsupported, skippedOtherUse, skippedWeak, skippedCertificate}

// skip is the error of a key that cannot be used.
type skip struct {
	reason string
	error
}

func skipf(reason, format string, args ...any) error {
	return skip{reason, fmt.Errorf(format, args...)}
}

func reasonOf(err error) string {
	if s, ok := errors.AsType[skip](err); ok {
		return s.reason
	}
	return skippedMalformed
}

// members are those of a JSON Web Key (RFC 7517), by their exact names.
type members map[string]json.RawMessage

// text is a member that is a string; "" where it is missing or something else.
func (m members) text(name string) string {
	var s string
	if json.Unmarshal(m[name], &s) != nil {
		return ""
	}
	return s
}

// texts are the strings of a member that is a list; what else is in it is left out. A
// string by itself is taken for a list of one.
func (m members) texts(name string) (out []string) {
	var list []json.RawMessage
	if json.Unmarshal(m[name], &list) != nil {
		list = []json.RawMessage{m[name]}
	}
	for _, v := range list {
		var s string
		if json.Unmarshal(v, &s) == nil && s != "" {
			out = append(out, s)
		}
	}
	return out
}

// parseKey reads one key of a set. Only what the key is made of (RFC 7518, section 6)
// must be right. An optional member that is not of its form counts as absent: issuers
// write x5t in hexadecimal or x5c as PEM, and no caller must be locked out by that. What
// can be read of `use`, `key_ops` and `alg` restricts the key, and a certificate that can
// be read must be for it. Private members are never looked at.
//
// The kid is returned beside an error too, to name the key by.
func parseKey(raw json.RawMessage) (kid string, k keyOfSet, err error) {
	var m members
	if json.Unmarshal(raw, &m) != nil || m == nil {
		return "", k, skipf(skippedMalformed, "it is no JSON object")
	}
	kid = m.text("kid")
	if k.key, err = m.key(); err != nil {
		return kid, keyOfSet{}, err
	}
	if err := auth.CheckKey(k.key); err != nil {
		return kid, keyOfSet{}, skip{skippedWeak, err}
	}
	if k.alg, err = m.restriction(k.key); err != nil {
		return kid, keyOfSet{}, err
	}
	if holdsAnother(m.texts("x5c"), k.key) {
		return kid, keyOfSet{}, skipf(skippedCertificate, "its x5c is the certificate of another key")
	}
	return kid, k, nil
}

// key makes the public key.
func (m members) key() (any, error) {
	switch kty := m.text("kty"); kty {
	case "RSA":
		return m.rsa()
	case "EC":
		return m.ec()
	case "OKP":
		if crv := m.text("crv"); crv != "Ed25519" {
			return nil, skipf(skippedUnsupported, "its curve is %.40q", crv)
		}
		x, err := m.bytes("x")
		return ed25519.PublicKey(x), err
	case "":
		return nil, skipf(skippedMalformed, "it has no kty")
	default:
		return nil, skipf(skippedUnsupported, "its kty is %.40q", kty)
	}
}

func (m members) rsa() (any, error) {
	n, err := m.bytes("n")
	if err != nil {
		return nil, err
	}
	e, err := m.bytes("e")
	if err != nil {
		return nil, err
	}
	exponent := new(big.Int).SetBytes(e)
	if exponent.BitLen() > 31 { // It would wrap to another, which a forger could choose.
		return nil, skipf(skippedWeak, "its exponent has %d bits", exponent.BitLen())
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
}

func (m members) ec() (any, error) {
	var curve elliptic.Curve
	switch crv := m.text("crv"); crv {
	case "P-256":
		curve = elliptic.P256()
	case "P-384":
		curve = elliptic.P384()
	case "P-521":
		curve = elliptic.P521()
	default:
		return nil, skipf(skippedUnsupported, "its curve is %.40q", crv)
	}
	size := (curve.Params().BitSize + 7) / 8
	point := make([]byte, 1, 1+2*size)
	point[0] = 4 // Not compressed (SEC 1, 2.3.3).
	for _, name := range []string{"x", "y"} {
		b, err := m.bytes(name)
		if err != nil {
			return nil, err
		}
		// Some issuers leave leading zeros out, which RFC 7518, 6.2.1.2, forbids: the
		// number is the same.
		c := new(big.Int).SetBytes(b)
		if c.BitLen() > 8*size {
			return nil, skipf(skippedMalformed, "its %s is longer than its curve allows", name)
		}
		point = append(point, c.FillBytes(make([]byte, size))...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, skipf(skippedMalformed, "it is no point of its curve")
	}
	return key, nil
}

// bytes is a member in base64url. Padding, which has no place there, changes nothing.
func (m members) bytes(name string) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(m.text(name), "="))
	if err != nil || len(b) == 0 {
		return nil, skipf(skippedMalformed, "its %s is missing or no base64url", name)
	}
	return b, nil
}

// restriction is the one algorithm that the key is for, or "". A key that says it is for
// something else than verifying signatures is skipped.
func (m members) restriction(key any) (alg string, err error) {
	if use := m.text("use"); use != "" && use != "sig" {
		return "", skipf(skippedOtherUse, "its use is %.40q", use)
	}
	if ops := m.texts("key_ops"); len(ops) > 0 && !slices.Contains(ops, "verify") {
		return "", skipf(skippedOtherUse, "its key_ops are %.100q", ops)
	}
	alg = m.text("alg")
	if alg == "Ed25519" { // What RFC 9864 calls the one EdDSA that there is here.
		alg = "EdDSA"
	}
	if alg != "" && !auth.Suits(alg, key) {
		return "", skipf(skippedUnsupported, "its alg is %.40q", alg)
	}
	return alg, nil
}
