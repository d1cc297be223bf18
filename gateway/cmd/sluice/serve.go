package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"google.golang.org/grpc/grpclog"

	"github.com/sluice-gateway/sluice/gen/openapi"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/config"
	"github.com/sluice-gateway/sluice/gateway/handover"
	"github.com/sluice-gateway/sluice/gateway/shop"
)

func serve(args []string) error {
	f := newFlags("serve")
	file := f.String("config", os.Getenv("SLUICE_CONFIG"), "configuration `FILE`, or etcd://HOST:2379/KEY (SLUICE_CONFIG)")
	demo := f.Bool("demo", false, "accept tokens of 'sluice token', write demo data, offer gRPC reflection")
	var h handover.Options
	f.StringVar(&h.PIDFile, "pid-file", "", "write the number of the process that serves to `FILE`")
	f.DurationVar(&h.Timeout, "upgrade-timeout", handover.DefaultTimeout, "how long a new process may take to get ready after SIGUSR2")
	if err := parse(f, args); err != nil {
		return quiet(err)
	}
	l, err := newLife(h)
	if err != nil {
		return err
	}
	// What grpc-go and grpc-gateway would print is answered and logged by us.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	memory := decideMemory(os.Getenv, memlimit.FromCgroup)
	memory.apply()
	source, err := config.Open(*file, os.Getenv)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }() // Only read.
	cfg, err := source.Load(context.Background())
	if err != nil {
		return err
	}
	opts := []gateway.Option{
		gateway.WithServices(shop.Services()...), gateway.WithHTTPServices(shop.HTTPServices()...),
		gateway.WithDocs("Sluice shop API", openapi.Document),
		gateway.WithSource(source), gateway.WithSockets(l.Listen),
		gateway.OnReady(func(g *gateway.Gateway) {
			if l.ready(g) {
				welcome(g, *demo)
			}
		}),
	}
	if *demo {
		opts = append(opts, gateway.WithDemo())
	}
	g, err := gateway.New(cfg, opts...)
	if err != nil {
		return config.Locate(*file, err)
	}
	memory.log(g.Logger())
	l.log = g.Logger()
	defer reloadOnHangup(g, l)()
	return l.run(g)
}

// reloadOnHangup reads the configuration again on SIGHUP, whether or not it looks
// changed. How it went is told in the log, in metrics, at /config, and to systemd.
func reloadOnHangup(g *gateway.Gateway, l *life) (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-hangup:
				l.report(l.Reloading())
				status := "serving"
				if err := g.Reload(context.Background()); err != nil { // Bounded by itself, and by the drain.
					status = "serving with the configuration from before: the new one has errors, see the log"
				}
				l.report(l.Reloaded(status))
			}
		}
	}()
	return func() {
		signal.Stop(hangup)
		close(done)
	}
}

// welcome prints where the gateway is and three things to try.
func welcome(g *gateway.Gateway, demo bool) {
	a := g.Addrs()
	base, flag := "http://"+local(a.HTTP), "-plaintext"
	overTLS, grpcTLS := g.TLS()
	if overTLS {
		base = "https://" + local(a.HTTP)
	}
	if grpcTLS {
		flag = "-insecure"
	}
	fmt.Printf("sluice is ready\n  REST   %s   docs %s/docs\n  gRPC   %s\n  admin  http://%s\n", base, base, local(a.GRPC), local(a.Admin))
	fmt.Println("try:")
	if !demo {
		fmt.Printf("  curl %s/v1/users/ada/profile\n  curl http://%s/routes?format=text\n  open %s/docs\n", base, local(a.Admin), base)
		return
	}
	fmt.Printf(`  TOKEN=$(%s token --subject ada --scope "users.read orders.read orders.write")
  curl -H "Authorization: Bearer $TOKEN" %s/v1/users/ada/overview
  grpcurl %s -H "authorization: Bearer $TOKEN" -d '{"user_id":"ada"}' %s shop.bff.v1.BffService/GetUserOverview
  curl -N -H "Authorization: Bearer $TOKEN" %s/v1/orders/ada-0012:watch
`, self(g), base, flag, local(a.GRPC), base)
}

// self is how to run this program with the same data directory, whose key
// signs the tokens.
func self(g *gateway.Gateway) string {
	s := os.Args[0]
	if d := g.DataDir(); d != "data" {
		s = "SLUICE_DATA_DIR=" + d + " " + s
	}
	return s
}

// local is an address as someone on this machine would write it.
func local(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// parse refuses what is left over after the flags.
func parse(f *flag.FlagSet, args []string) error {
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("%s takes no argument %q", f.Name(), f.Arg(0))
	}
	return nil
}

// quiet: asking for help is no failure.
func quiet(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}
