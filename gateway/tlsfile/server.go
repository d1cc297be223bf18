package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ServerOptions of a listener's TLS.
type ServerOptions struct {
	// CertFile and KeyFile are PEM: the certificate chain and its key.
	CertFile, KeyFile string
	// ClientCAFile holds the authorities that may sign clients' certificates;
	// empty means that no client is asked for one.
	ClientCAFile string
	// RequireClientCert refuses clients without a certificate. Needs ClientCAFile.
	RequireClientCert bool
	// MinVersion is tls.VersionTLS12 (0 means that) or tls.VersionTLS13.
	MinVersion uint16
	// Refresh is how often the files are looked at; 0 means 10s.
	Refresh time.Duration
	// Log gets reloads and what is wrong with files; nil means nobody.
	Log *slog.Logger
	// Metrics gets sluice_tls_*; nil means nobody.
	Metrics prometheus.Registerer
	// Name of the listener in logs and metrics, such as `http`.
	Name string
}

// ServerTLS is the TLS of a listener. Safe for concurrent use.
type ServerTLS struct {
	o       ServerOptions
	current atomic.Pointer[material]
	watcher *watcher
}

// Server reads the files, which must be usable, and watches them until Close.
// An expired certificate is only warned of.
func Server(o ServerOptions) (*ServerTLS, error) {
	switch {
	case o.CertFile == "" || o.KeyFile == "":
		return nil, fmt.Errorf("TLS of %s: a listener needs cert_file and key_file", o.Name)
	case o.RequireClientCert && o.ClientCAFile == "":
		return nil, fmt.Errorf("TLS of %s: require_client_cert needs client_ca_file", o.Name)
	case o.MinVersion == 0:
		o.MinVersion = tls.VersionTLS12
	case o.MinVersion != tls.VersionTLS12 && o.MinVersion != tls.VersionTLS13:
		return nil, fmt.Errorf("TLS of %s: min_version is 1.2 or 1.3", o.Name)
	}
	s := &ServerTLS{o: o}
	s.watcher = &watcher{
		files: files{cert: o.CertFile, key: o.KeyFile, ca: o.ClientCAFile, caField: "client_ca_file"},
		log:   o.Log, name: o.Name, swap: s.current.Store,
	}
	if err := watch(s.watcher, o.Refresh, o.Metrics); err != nil {
		return nil, err
	}
	return s, nil
}

// Config returns a configuration for a listener that speaks the protocols
// (ALPN). Certificate and client authorities are those of one moment: each
// handshake takes the set that is current when it begins.
//
// Sessions are resumed across changes of the files, but crypto/tls holds a
// session's client certificate to the authorities of now, not to those of when
// it was made: a removed authority ends them.
func (s *ServerTLS) Config(nextProtos ...string) *tls.Config {
	return &tls.Config{
		MinVersion: s.o.MinVersion,
		NextProtos: nextProtos,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			m := s.current.Load()
			if m == nil || m.cert == nil {
				return nil, errors.New("no certificate")
			}
			c := &tls.Config{
				MinVersion:   s.o.MinVersion,
				CipherSuites: suites,
				NextProtos:   nextProtos,
				Certificates: []tls.Certificate{*m.cert},
			}
			if s.o.ClientCAFile != "" {
				c.ClientCAs, c.ClientAuth = m.pool, tls.VerifyClientCertIfGiven
				if s.o.RequireClientCert {
					c.ClientAuth = tls.RequireAndVerifyClientCert
				}
			}
			return c, nil
		},
	}
}

// Trusts says whether the authorities of now would accept a client certificate whose
// chains were found when its connection began: a connection may be older than the file
// that took its authority away, or that has a renewed certificate of it.
func (s *ServerTLS) Trusts(chains [][]*x509.Certificate) bool {
	m := s.current.Load()
	if m == nil || m.pool == nil || len(chains) == 0 || len(chains[0]) == 0 {
		return false
	}
	for _, chain := range chains {
		if n := len(chain); n > 0 && m.authorities[string(chain[n-1].Raw)] {
			return true
		}
	}
	return m.verifies(chains)
}

// Close ends the watching; the configurations keep the last files.
func (s *ServerTLS) Close() error {
	s.watcher.close()
	return nil
}

// suites of TLS 1.2 are Go's without CBC, which HTTP/2 forbids (RFC 9113,
// appendix A): ephemeral keys and authenticated encryption. Those of TLS 1.3
// cannot be chosen.
var suites = func() []uint16 {
	var out []uint16
	for _, s := range tls.CipherSuites() {
		if !strings.Contains(s.Name, "_CBC_") {
			out = append(out, s.ID)
		}
	}
	return out
}()
