package tlsfile

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"
)

// ClientOptions of TLS towards a server.
type ClientOptions struct {
	// CAFile holds the authorities that may sign the server's certificate; empty
	// means the system's.
	CAFile string
	// CertFile and KeyFile are our certificate, for mTLS; both or neither.
	CertFile, KeyFile string
	// ServerName is who the server must be; empty means the host that is called.
	ServerName string
	// Refresh is how often the files are looked at; 0 means 10s.
	Refresh time.Duration
	// Log gets reloads and what is wrong with files; nil means nobody.
	Log *slog.Logger
	// Metrics gets sluice_tls_*; nil means nobody.
	Metrics prometheus.Registerer
	// Name of the server in logs and metrics.
	Name string
}

// ClientTLS is TLS towards a server. Safe for concurrent use.
type ClientTLS struct {
	o       ClientOptions
	current atomic.Pointer[made]
	watcher *watcher
}

// made is what handshakes use while one set of files lasts.
type made struct {
	credentials.TransportCredentials
	config *tls.Config
}

// Client reads the files, which must be usable, and watches them until Close.
func Client(o ClientOptions) (*ClientTLS, error) {
	if err := pairOf(o.CertFile, o.KeyFile); err != nil {
		return nil, fmt.Errorf("TLS of %s: %w", o.Name, err)
	}
	c := &ClientTLS{o: o}
	c.watcher = &watcher{
		files: files{cert: o.CertFile, key: o.KeyFile, ca: o.CAFile, caField: "ca_file"},
		log:   o.Log, name: o.Name, swap: c.use,
	}
	if err := watch(c.watcher, o.Refresh, o.Metrics); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *ClientTLS) use(m *material) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: suites, RootCAs: m.pool, ServerName: c.o.ServerName}
	if m.cert != nil {
		cfg.Certificates = []tls.Certificate{*m.cert}
	}
	c.current.Store(&made{credentials.NewTLS(cfg.Clone()), cfg})
}

// Credentials are for grpc.WithTransportCredentials. Each handshake uses the
// files that are current when it begins, and verifies as crypto/tls does by
// itself; sessions are not resumed.
func (c *ClientTLS) Credentials() credentials.TransportCredentials { return clientCredentials{c} }

// Handshake begins TLS for HTTP/1.1 as a client, with the files that are current. Host
// is who the server must be where the options name nobody. On an error conn is closed.
func (c *ClientTLS) Handshake(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
	cfg := c.current.Load().config.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	cfg.NextProtos = []string{"http/1.1"}
	t := tls.Client(conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return t, nil
}

// Config is TLS with the files as they are now, for clients that take no
// credentials: changes of the files are for the next Config.
func (c *ClientTLS) Config() *tls.Config { return c.current.Load().config.Clone() }

// Close ends the watching; the credentials keep the last files.
func (c *ClientTLS) Close() error {
	c.watcher.close()
	return nil
}

type clientCredentials struct{ c *ClientTLS }

func (cc clientCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if cc.c.o.ServerName != "" { // grpc-go's own verify the authority, whatever it is.
		authority = cc.c.o.ServerName
	}
	return cc.c.current.Load().ClientHandshake(ctx, authority, conn)
}

func (clientCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are a client's")
}

func (cc clientCredentials) Info() credentials.ProtocolInfo { return cc.c.current.Load().Info() }

func (cc clientCredentials) Clone() credentials.TransportCredentials { return cc }

// OverrideServerName is deprecated by grpc-go, and would change what is
// verified behind the operator's back.
func (clientCredentials) OverrideServerName(string) error {
	return errors.New("the server's name is in the options")
}
