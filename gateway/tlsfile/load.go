package tlsfile

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// maxFile bounds a PEM file, in bytes: the system's whole list of authorities
// has a quarter of it.
const maxFile = 1 << 20

// files are the paths of one side; an empty one is not there.
type files struct {
	cert, key string // our certificate chain and its key: both or neither
	ca        string // the authorities that may sign the other side's
	caField   string // what the configuration calls ca
}

// content is what the files hold, in the order cert, key, ca.
type content [3][]byte

// sum tells contents apart, without keeping a private key longer than needed.
func (c content) sum() [sha256.Size]byte {
	h := sha256.New()
	for _, b := range c {
		fmt.Fprintf(h, "%d:", len(b))
		h.Write(b)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// material is a set of files that fit together. It does not change, but for what it
// remembers. Safe for concurrent use.
type material struct {
	cert *tls.Certificate // nil without a certificate of our own
	pool *x509.CertPool   // nil without a file of authorities
	// authorities are those of pool, in DER: a pool cannot be asked for one.
	authorities map[string]bool
	// verified are answers of verifies, so that a connection's certificate is verified
	// once, not for each call: a bool by the address of a connection's first chain.
	verified   sync.Map
	remembered atomic.Int64
}

// maxRemembered bounds verified. The connections beyond verify with each call.
const maxRemembered = 1024

// verifies says whether the authorities accept the leaf of chains that end in none of
// them: one may have been renewed with the same key. What a connection's client has sent
// is verified again, with all that was sent to fill the gap.
func (m *material) verifies(chains [][]*x509.Certificate) bool {
	connection := &chains[0][0]
	if ok, there := m.verified.Load(connection); there {
		return ok.(bool)
	}
	between := x509.NewCertPool()
	for _, chain := range chains {
		for _, c := range chain[min(1, len(chain)):] {
			between.AddCert(c)
		}
	}
	_, err := chains[0][0].Verify(x509.VerifyOptions{Roots: m.pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if m.remembered.Add(1) <= maxRemembered {
		m.verified.Store(connection, err == nil)
	}
	return err == nil
}

// expires is when our certificate ends; zero without one.
func (m *material) expires() time.Time {
	if m.cert == nil {
		return time.Time{}
	}
	return m.cert.Leaf.NotAfter
}

func (f files) read() (c content, err error) {
	for i, file := range []struct{ what, path string }{{"cert_file", f.cert}, {"key_file", f.key}, {f.caField, f.ca}} {
		if file.path == "" {
			continue
		}
		if c[i], err = readFile(file.path); err != nil {
			return c, fmt.Errorf("%s: %w", file.what, err)
		}
	}
	return c, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // A pipe would hold the reader for ever.
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path) //nolint:gosec // The operator names the file.
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return b, nil
}

// parse makes a set of what the files hold. Errors name files, never content.
func (f files) parse(c content) (*material, error) {
	m := &material{}
	if f.cert != "" {
		cert, err := tls.X509KeyPair(c[0], c[1])
		if err != nil {
			return nil, fmt.Errorf("cert_file %s, key_file %s: %w", f.cert, f.key, err)
		}
		if cert.Leaf == nil {
			if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
				return nil, fmt.Errorf("cert_file %s: %w", f.cert, err)
			}
		}
		m.cert = &cert
	}
	if f.ca != "" {
		pool, err := parsePool(c[2])
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", f.caField, f.ca, err)
		}
		m.pool, m.authorities = pool, map[string]bool{}
		for block, rest := pem.Decode(c[2]); block != nil; block, rest = pem.Decode(rest) {
			m.authorities[string(block.Bytes)] = true
		}
	}
	return m, nil
}

// parsePool is stricter than x509.CertPool.AppendCertsFromPEM, which skips what
// it cannot read: half a file must not silently take authorities away.
func parsePool(b []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		rest := b
		if block, b = pem.Decode(b); block == nil {
			if bytes.Contains(rest, []byte("-----BEGIN")) {
				return nil, errors.New("the last PEM block is not whole")
			}
			break
		}
		// pem.Decode jumps over blocks that it cannot read.
		if bytes.Count(rest[:len(rest)-len(b)], []byte("-----BEGIN")) != 1 {
			return nil, errors.New("a PEM block is not whole")
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a PEM block %q, want CERTIFICATE", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		pool.AddCert(cert)
		n++
	}
	if n == 0 {
		return nil, errors.New("it holds no PEM certificate")
	}
	return pool, nil
}
