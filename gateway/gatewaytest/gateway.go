package gatewaytest

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/config"
)

// Gateway is a gateway that runs for the length of a test.
type Gateway struct {
	*gateway.Gateway
	// URL of the REST edge, without a slash at the end.
	URL string
	// AdminURL of the admin listener.
	AdminURL string
	// Conn is a connection to the gRPC edge.
	Conn *grpc.ClientConn
	// Config it was built from.
	Config *configv1.Config
	// Log is what it has logged, one JSON line an entry.
	Log *Log

	stop func() error
}

// Start runs a gateway on free ports with a data directory of its own, demo
// data and the development key, and stops it when the test ends. Edit may
// change the configuration.
func Start(t testing.TB, edit func(*configv1.Config), opts ...gateway.Option) *Gateway {
	t.Helper()
	cfg := Config(t)
	if edit != nil {
		edit(cfg)
	}
	return Run(t, cfg, opts...)
}

// Config is a complete configuration with free ports, a directory of its own,
// and limits that no test reaches who does not set its own.
func Config(t testing.TB) *configv1.Config {
	t.Helper()
	env := map[string]string{
		"SLUICE_HTTP_ADDR": "127.0.0.1:0", "SLUICE_GRPC_ADDR": "127.0.0.1:0", "SLUICE_ADMIN_ADDR": "127.0.0.1:0",
		"SLUICE_DATA_DIR": t.TempDir(),
	}
	cfg, err := config.Load("", func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	noLimits(cfg)
	return cfg
}

// Run runs a gateway with the configuration as it stands.
func Run(t testing.TB, cfg *configv1.Config, opts ...gateway.Option) *Gateway {
	t.Helper()
	log := &Log{}
	ready := make(chan struct{})
	opts = append([]gateway.Option{
		gateway.WithDemo(), gateway.WithLogger(slog.New(slog.NewJSONHandler(log, nil))),
		gateway.WithGetenv(func(string) string { return "" }),
		gateway.OnReady(func(*gateway.Gateway) { close(ready) }),
	}, opts...)
	g, err := gateway.New(cfg, opts...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	select {
	case <-ready:
	case err := <-done:
		cancel()
		t.Fatalf("gateway did not start: %v", err)
	}
	r := &Gateway{Gateway: g, URL: "http://" + g.Addrs().HTTP, AdminURL: "http://" + g.Addrs().Admin, Config: cfg, Log: log}
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	r.Conn = Dial(t, g.Addrs().GRPC)
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Errorf("gateway: %v", err)
		}
		if t.Failed() {
			r.dump(t)
		}
	})
	return r
}

// Stop drains the gateway and waits for it.
func (g *Gateway) Stop() error { return g.stop() }

// Token mints a token of the development key.
func (g *Gateway) Token(t testing.TB, subject, scopes string) string {
	t.Helper()
	token, err := g.DevKey().Mint(subject, strings.Fields(scopes), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// As returns a context that calls the gRPC edge with a token.
func (g *Gateway) As(t testing.TB, subject, scopes string) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+g.Token(t, subject, scopes))
}

// Dial connects to a gRPC server for the length of a test.
func Dial(t testing.TB, addr string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(addr, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cc.Close(); err != nil {
			t.Error(err)
		}
	})
	return cc
}

// Serve runs a gRPC server on a free port for the length of a test, and
// returns its address and what kills it at once.
func Serve(t testing.TB, register func(grpc.ServiceRegistrar), opts ...grpc.ServerOption) (addr string, kill func()) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(opts...)
	register(srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	kill = func() {
		srv.Stop()
		<-done
	}
	t.Cleanup(kill)
	return l.Addr().String(), kill
}

// Log keeps what is written to it. Safe for concurrent use.
type Log struct {
	mu sync.Mutex
	b  strings.Builder
}

// Write adds p.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// Lines returns the lines written so far.
func (l *Log) Lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.b.String(), "\n"), "\n")
}

var _ io.Writer = (*Log)(nil)

// OtherKey mints a token for ada with every scope, by a development key that
// no gateway of the test knows.
func OtherKey(t testing.TB) string {
	t.Helper()
	key, err := auth.OpenDevKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	token, err := key.Mint("ada", []string{"admin"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// dump shows the log of a gateway whose test failed, without its access log.
func (g *Gateway) dump(t testing.TB) {
	for _, line := range g.Log.Lines() {
		if !strings.Contains(line, `"msg":"request"`) {
			t.Log(line)
		}
	}
}

// noLimits takes the limits out of a configuration, for tests of something
// else: the classes stay, with budgets that no test uses up.
func noLimits(c *configv1.Config) {
	const many = 1_000_000_000
	c.Limits.Address = &configv1.AddressLimit{Off: true}
	for _, class := range c.GetLimits().GetClasses() {
		class.Rates = []*configv1.Rate{{Per: "principal", Requests: many, Interval: durationpb.New(time.Second), Burst: many}}
		class.Quotas, class.MaxInFlightPerCaller, class.MaxInFlightPerMethod = nil, 0, 0
	}
}
