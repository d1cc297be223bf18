package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/sluice-gateway/sluice/gateway/wire"
)

// RemoteOptions say how to reach a service in another process.
type RemoteOptions struct {
	// Target is a gRPC target: host:port, dns:///name:port, unix:path.
	Target string
	// TLS towards the target; nil means plaintext.
	TLS *TLSOptions
}

// TLSOptions of a client. Files are PEM, read once.
type TLSOptions struct {
	// CAFile holds the authorities; empty means the system's.
	CAFile string
	// CertFile and KeyFile are our certificate, for mTLS; both or neither.
	CertFile, KeyFile string
	// ServerName is who the server must be; empty means the target's host.
	ServerName string
}

// Remote connects to a service in another process. It does not wait for the
// connection: a target that does not answer makes calls fail with UNAVAILABLE.
// A target that cannot be parsed, or a file that cannot be read, is an error.
func Remote(o RemoteOptions) (Target, error) {
	creds := insecure.NewCredentials()
	if o.TLS != nil {
		cfg, err := o.TLS.config()
		if err != nil {
			return nil, fmt.Errorf("upstream %s: %w", o.Target, err)
		}
		creds = credentials.NewTLS(cfg)
	}
	cc, err := grpc.NewClient(o.Target,
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.Codec{}), grpc.MaxCallRecvMsgSize(MaxMessageBytes)),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		// Service config from DNS could change policy behind the operator's back,
		// and retries are a wrapper of ours, the same in-process.
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		// grpc-go's backoff grows to two minutes: a service that is back should be
		// used again at once.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithIdleTimeout(0),
	)
	if err != nil {
		return nil, fmt.Errorf("upstream target %q: %w", o.Target, err)
	}
	cc.Connect()
	return &remote{ClientConn: cc, target: o.Target}, nil
}

// CheckTarget says whether a gRPC target can be parsed. It calls nobody.
func CheckTarget(target string) error {
	cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("target %q: %w", target, err)
	}
	return cc.Close()
}

type remote struct {
	*grpc.ClientConn
	target string
}

func (r *remote) String() string { return r.target }

func (o *TLSOptions) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s holds no PEM certificate", o.CAFile)
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, errors.New("cert_file and key_file go together")
	}
	if o.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file, key_file: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}
