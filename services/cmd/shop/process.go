package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/announce"
	"github.com/sluice-gateway/sluice/services/payments"
	"github.com/sluice-gateway/sluice/services/shop"
)

const (
	// maxMessageBytes holds a picture of 2 MiB with its envelope.
	maxMessageBytes = 4 << 20
	// minPingInterval lets the gateway notice a dead connection by pings.
	minPingInterval = 10 * time.Second
	drainTimeout    = 10 * time.Second
)

// process is one service with its server, listening.
type process struct {
	service  *kit.Service
	keys     *kit.KeyFiles
	door     door
	listener net.Listener
	name     string
	grace    time.Duration
	announce announce.Options // without endpoints: nobody is told
	log      *slog.Logger
}

// newProcess opens everything that can fail; on an error nothing stays open.
func newProcess(ctx context.Context, o options, tracer trace.TracerProvider, log *slog.Logger) (_ *process, err error) {
	keys, err := kit.WatchKeys(kit.KeyFilesOptions{Files: o.assertionKeys, Logger: log})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			keys.Close()
		}
	}()
	service, opened, err := openDoor(ctx, o, keys, tracer, log)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, service.Close())
		}
	}()
	if o.seed {
		if err := service.Seed(ctx); err != nil {
			return nil, fmt.Errorf("seed: %w", err)
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.addr)
	if err != nil {
		return nil, err
	}
	p := &process{
		service: service, keys: keys, door: opened,
		listener: listener, name: o.service, grace: drainTimeout, log: log,
	}
	p.announce = announce.Options{Endpoints: o.etcd, Prefix: o.etcdPrefix, Name: service.Name, Addr: cmp.Or(o.advertise, listener.Addr().String()), Logger: log}
	return p, nil
}

// openDoor opens a service, and what it is reached by.
func openDoor(ctx context.Context, o options, keys *kit.KeyFiles, tracer trace.TracerProvider, log *slog.Logger) (*kit.Service, door, error) {
	if o.service == payments.Name {
		return openPayments(ctx, o, keys, tracer, log)
	}
	opts, err := serverOptions(o, keys, tracer, log)
	if err != nil {
		return nil, nil, err
	}
	service, err := shop.Open(ctx, o.service, o.db, log)
	if err != nil {
		return nil, nil, err
	}
	d := &grpcDoor{grpc.NewServer(opts...), health.NewServer(), service.Name}
	service.Register(d.Server)
	healthv1.RegisterHealthServer(d.Server, d.health)
	if o.reflection {
		reflection.Register(d.Server)
	}
	return service, d, nil
}

func serverOptions(o options, keys *kit.KeyFiles, tracer trace.TracerProvider, log *slog.Logger) ([]grpc.ServerOption, error) {
	verifier, err := kit.NewVerifierFunc(keys.Keys)
	if err != nil {
		return nil, err
	}
	io := kit.InterceptorOptions{Verifier: verifier, Logger: log, Tracer: tracer}
	unary, err := kit.Unary(io)
	if err != nil {
		return nil, err
	}
	stream, err := kit.Stream(io)
	if err != nil {
		return nil, err
	}
	opts := []grpc.ServerOption{
		grpc.UnaryInterceptor(unary),
		grpc.StreamInterceptor(stream),
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval, PermitWithoutStream: true}),
	}
	if o.tlsCert != "" {
		conf, err := tlsConfig(o)
		if err != nil {
			return nil, err
		}
		opts = append(opts, grpc.Creds(credentials.NewTLS(conf)))
	}
	return opts, nil
}

func tlsConfig(o options) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(o.tlsCert, o.tlsKey)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	if o.tlsClient != "" {
		raw, err := os.ReadFile(o.tlsClient)
		if err != nil {
			return nil, fmt.Errorf("--tls-client-ca: %w", err)
		}
		conf.ClientCAs = x509.NewCertPool()
		if !conf.ClientCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("--tls-client-ca: %s holds no PEM certificate", o.tlsClient)
		}
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

// serve answers until ctx ends, then drains: new work goes elsewhere (health says
// NOT_SERVING), what runs may finish within the grace period.
func (p *process) serve(ctx context.Context, stdout io.Writer) (err error) {
	defer func() { err = errors.Join(err, p.service.Close()) }()
	defer p.keys.Close()
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	watched := p.watchHealth(watching)
	defer func() { stopWatching(); <-watched }()

	failed := make(chan error, 1)
	go func() { failed <- p.door.Serve(p.listener) }()
	told, err := p.tell()
	if err != nil {
		p.door.Stop()
		return err
	}
	fmt.Fprintf(stdout, "%s service ready on %s\n", p.name, p.listener.Addr())
	select {
	case err := <-failed:
		told()
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	told() // Before anything else: gateways go elsewhere by themselves.
	p.drain()
	if err := <-failed; !errors.Is(err, grpc.ErrServerStopped) { // Stopped before it began.
		return err
	}
	return nil
}

// tell announces the service where it was told to; the function it returns takes
// that back.
func (p *process) tell() (func(), error) {
	if len(p.announce.Endpoints) == 0 {
		return func() {}, nil
	}
	a, err := announce.Announce(p.announce)
	if err != nil {
		return nil, err
	}
	return func() {
		if err := a.Close(); err != nil {
			p.log.Warn("the announcement could not be taken back: it ends by itself", "error", err)
		}
	}, nil
}

func (p *process) drain() {
	p.log.Info("draining")
	p.door.Unready()
	p.service.Drain()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		p.door.GracefulStop()
	}()
	timeout := time.NewTimer(p.grace)
	defer timeout.Stop()
	select {
	case <-drained:
	case <-timeout.C:
		p.log.Warn("calls still run after the grace period: they are cut off")
		p.door.Stop()
		<-drained
	}
}
