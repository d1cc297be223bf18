package tlsfile

import (
	"bytes"
	"crypto/x509"
	"testing"
)

// FuzzParsePool: nothing panics, and what is accepted is what crypto/x509 sees,
// with nothing skipped.
func FuzzParsePool(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n-----BEGIN"))
	f.Add([]byte("text\n-----BEGIN X-----\na: b\n\nAAAA\n-----END X-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		pool, err := parsePool(b)
		if err != nil {
			if pool != nil {
				t.Fatal("authorities beside an error")
			}
			return
		}
		want := x509.NewCertPool()
		if !want.AppendCertsFromPEM(b) || !want.Equal(pool) || bytes.Count(b, []byte("-----BEGIN")) == 0 {
			t.Fatalf("accepted %q", b)
		}
	})
}
