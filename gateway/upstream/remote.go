package upstream

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/sluice-gateway/sluice/gateway/tlsfile"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// RemoteOptions say how to reach a service in another process.
type RemoteOptions struct {
	// Target is a gRPC target: host:port, dns:///name:port, unix:path.
	Target string
	// TLS towards the target; nil means plaintext.
	TLS *TLSOptions
}

// TLSOptions of a client. Files are PEM, and read again when they change.
type TLSOptions struct {
	// CAFile holds the authorities; empty means the system's.
	CAFile string
	// CertFile and KeyFile are our certificate, for mTLS; both or neither.
	CertFile, KeyFile string
	// ServerName is who the server must be; empty means the target's host.
	ServerName string
	// Refresh is how often the files are looked at; 0 means 10s.
	Refresh time.Duration
	// Log gets reloads; nil means nobody.
	Log *slog.Logger
	// Metrics gets sluice_tls_*, named by the target; nil means nobody.
	Metrics prometheus.Registerer
}

// streamWindow is what a service may send on a stream before the gateway reads
// it, in bytes, and connWindow on all streams of a connection before grpc-go
// does: docs/decisions/0015-forwarding.md.
const (
	streamWindow = 256 << 10
	connWindow   = 1 << 20
)

// Remote connects to a service in another process. It does not wait for the
// connection: a target that does not answer makes calls fail with UNAVAILABLE.
// A target that cannot be parsed, or a file that cannot be read, is an error.
func Remote(o RemoteOptions) (Target, error) {
	creds, r := insecure.NewCredentials(), &remote{target: o.Target}
	if o.TLS != nil {
		var err error
		if r.tls, err = o.TLS.open(o.Target); err != nil {
			return nil, fmt.Errorf("upstream %s: %w", o.Target, err)
		}
		creds = r.tls.Credentials()
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
		// Windows of grpc-go's own choice grow to 16 MiB a stream: so much would be
		// held for a caller that reads slowly.
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connWindow),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("upstream target %q: %w", o.Target, err), r.closeTLS())
	}
	r.ClientConn = cc
	cc.Connect()
	return r, nil
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
	tls    *tlsfile.ClientTLS // nil in plaintext
}

func (r *remote) String() string { return r.target }

// Close ends the connections, then the watching of the files.
func (r *remote) Close() error { return errors.Join(r.ClientConn.Close(), r.closeTLS()) }

func (r *remote) closeTLS() error {
	if r.tls == nil {
		return nil
	}
	return r.tls.Close()
}

func (o *TLSOptions) open(target string) (*tlsfile.ClientTLS, error) {
	return tlsfile.Client(tlsfile.ClientOptions{
		CAFile: o.CAFile, CertFile: o.CertFile, KeyFile: o.KeyFile, ServerName: o.ServerName,
		Refresh: o.Refresh, Log: o.Log, Metrics: o.Metrics, Name: target,
	})
}
