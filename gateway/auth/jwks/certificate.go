package jwks

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
)

// holdsAnother says whether the first certificate of an x5c, which must be the key's
// (RFC 7517, 4.7), can be read and is for another key: such an issuer has mixed its keys
// up, and which one it meant nobody can say. A certificate that cannot be read says
// nothing of the key.
func holdsAnother(x5c []string, key any) bool {
	if len(x5c) == 0 {
		return false
	}
	cert := readCertificate(x5c[0])
	if cert == nil || cert.PublicKey == nil {
		return false
	}
	same, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return !ok || !same.Equal(key)
}

// readCertificate reads DER in base64, as RFC 7517 wants it, and what issuers write in its
// place: PEM, with line breaks or without, and base64url. Nil is that it is none of them.
func readCertificate(s string) *x509.Certificate {
	der, ok := unarmoured(s)
	if !ok {
		return nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	return cert
}

func unarmoured(s string) ([]byte, bool) {
	if block, _ := pem.Decode([]byte(s)); block != nil {
		return block.Bytes, true
	}
	const begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
	s, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(s), begin), end)
	s = strings.Join(strings.Fields(s), "")
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	der, err := base64.RawStdEncoding.DecodeString(s)
	return der, err == nil
}
