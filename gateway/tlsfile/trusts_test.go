package tlsfile_test

import (
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/tlsfile"
)

// renewed is the same authority with another certificate: its name and key stay.
func (a *authority) renewed(t testing.TB) *authority {
	t.Helper()
	c := *a.cert
	c.SerialNumber, c.NotAfter = big.NewInt(2), time.Now().Add(2*time.Hour)
	next := &authority{cert: &c, key: a.key}
	next.pem = next.sign(t, &c, a.key)
	return next
}

// under is an authority that another has signed.
func (a *authority) under(t testing.TB, name string) *authority {
	t.Helper()
	c := *a.cert
	c.Subject.CommonName, c.SerialNumber = name, big.NewInt(3)
	next := &authority{key: newKey(t)}
	next.pem = a.sign(t, &c, next.key)
	next.cert = parse(t, next.pem)
	return next
}

func parse(t testing.TB, b []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(b)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTrusts: what a live connection was verified by is held against the authorities of
// now, however often it is asked.
func TestTrusts(t *testing.T) {
	ca, other, d := newAuthority(t, "clients"), newAuthority(t, "clients"), newDir(t)
	inner := ca.under(t, "inner")
	cert, key := d.putPair(t, "server", ca.issue(t, "server", nil))
	file := d.put(t, "clients.pem", ca.pem)
	l := serve(t, tlsfile.ServerOptions{CertFile: cert, KeyFile: key, ClientCAFile: file})
	chainsOf := func(p pair, between ...*authority) [][]*x509.Certificate {
		pool := x509.NewCertPool()
		for _, a := range between {
			pool.AppendCertsFromPEM(a.pem)
		}
		chains, err := parse(t, p.cert).Verify(x509.VerifyOptions{Roots: ca.pool(), Intermediates: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if err != nil {
			t.Fatal(err)
		}
		return chains
	}
	direct, through := chainsOf(ca.issue(t, "ada", nil)), chainsOf(inner.issue(t, "grace", nil), inner)
	reloads := 0.0
	for _, step := range []struct {
		name        string
		authorities [][]byte
		want        bool
	}{
		{"another is added", [][]byte{ca.pem, other.pem}, true},
		{"another of the same name in its place", [][]byte{other.pem}, false},
		{"renewed with the same key", [][]byte{ca.renewed(t).pem}, true},
		{"another of another name", [][]byte{newAuthority(t, "others").pem}, false},
		{"renewed, among others", [][]byte{other.pem, ca.renewed(t).pem}, true},
		{"as it was", [][]byte{ca.pem}, true},
	} {
		d.put(t, "clients.pem", slices.Concat(step.authorities...))
		reloads++
		eventually(t, "the reload", func() bool { return l.reloads(t, "loaded") == reloads })
		for range 3 { // Remembered, from the second on.
			for name, chains := range map[string][][]*x509.Certificate{"direct": direct, "through another": through} {
				if got := l.Trusts(chains); got != step.want {
					t.Errorf("%s, %s: trusted %v", step.name, name, got)
				}
			}
		}
	}
	if l.Trusts(nil) || l.Trusts([][]*x509.Certificate{{}}) {
		t.Error("no chain is trusted")
	}
	d.put(t, "clients.pem", other.pem)
	eventually(t, "the reload", func() bool { return l.reloads(t, "loaded") == reloads+1 })
	for range 1100 { // More connections than are remembered.
		if l.Trusts([][]*x509.Certificate{slices.Clone(direct[0])}) {
			t.Fatal("trusted")
		}
	}
	none := serve(t, tlsfile.ServerOptions{CertFile: cert, KeyFile: key})
	if none.Trusts(direct) {
		t.Error("trusted by the system's authorities, where none are configured")
	}
}
