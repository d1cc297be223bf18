// Package peer is what the programs that the benchmark holds Sluice against have
// in common: flags, a listener, and an admin listener with Go's own figures.
package peer

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Server serves a listener until it is stopped.
type Server interface {
	// Serve returns nil when it ends because of Stop.
	Serve(l net.Listener) error
	Stop()
}

// Main runs the program: build makes the server for a backend's address. It
// exits on SIGTERM.
func Main(name string, build func(backend string) (Server, error)) {
	addr := flag.String("addr", "127.0.0.1:0", "address to listen on")
	admin := flag.String("admin", "", "address of /readyz and /debug/pprof; none when empty")
	backend := flag.String("backend", "", "address of the gRPC backend")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *admin, *backend, build); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr, admin, backend string, build func(string) (Server, error)) error {
	s, err := build(backend)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serve(ctx, addr, s) })
	if admin != "" {
		group.Go(func() error { return serve(ctx, admin, HTTP(adminHandler())) })
	}
	return group.Wait()
}

func serve(ctx context.Context, addr string, s Server) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, s.Stop)()
	return s.Serve(l)
}

func adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	return mux
}

// Dial connects to the backend as any client would, with o beside.
func Dial(backend string, o ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient(backend, append(o, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
}

// HTTP serves h.
func HTTP(h http.Handler) Server {
	return httpServer{&http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}}
}

type httpServer struct{ s *http.Server }

func (h httpServer) Stop() { _ = h.s.Close() } // the process ends

func (h httpServer) Serve(l net.Listener) error {
	if err := h.s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
