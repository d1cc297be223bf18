package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/handover"
)

// life is the process from its start to its end, as signals tell it: SIGTERM and
// SIGINT drain it, and a second one ends it at once; SIGUSR2 puts a new process
// in its place.
type life struct {
	*handover.Process
	upgrade chan os.Signal
	log     *slog.Logger
	end     context.CancelCauseFunc // of the gateway
	failed  error                   // why the gateway ended itself
	whole   context.Context         // ends with the process, after the drain
	over    context.CancelFunc
}

// newLife takes over what another process or systemd has passed. From now on
// SIGUSR2 does not end the process.
func newLife(o handover.Options) (*life, error) {
	o.Names, o.Optional = []string{"http", "grpc", "admin"}, []string{"admin"}
	l := &life{upgrade: make(chan os.Signal, 1), log: slog.New(slog.DiscardHandler)}
	if len(replaceSignals) > 0 { // None would mean all.
		signal.Notify(l.upgrade, replaceSignals...)
	}
	var err error
	l.Process, err = handover.New(o)
	return l, err
}

// run runs the gateway until it is told to end, or is replaced. The gateway's
// OnReady must call ready.
func (l *life) run(g *gateway.Gateway) error {
	ctx, end := context.WithCancelCause(context.Background())
	defer end(nil)
	l.end = end
	l.whole, l.over = context.WithCancel(context.Background())
	defer l.over()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-stop
		signal.Stop(stop) // A second one ends the process at once.
		l.report(l.Stopping())
		end(nil)
	}()
	go l.replace()
	return errors.Join(g.Run(ctx), l.failed)
}

// replace starts a new process whenever it is told to. The signal is kept until
// somebody waits for it.
func (l *life) replace() {
	for range l.upgrade {
		l.log.Info("starting a new process in place of this one")
		if err := l.Upgrade(); err != nil {
			l.log.Error("not replaced", "error", err)
			continue
		}
		l.end(gateway.ErrReplaced)
	}
}

// ready is for gateway.OnReady. A process that cannot say that it is ready ends:
// the one before goes on.
func (l *life) ready(g *gateway.Gateway) bool {
	if err := l.Ready(l.log); err != nil {
		l.failed = fmt.Errorf("say that the gateway is ready: %w", err)
		l.end(l.failed)
		return false
	}
	go l.Watchdog(l.whole, l.log, func(ctx context.Context) error { return alive(ctx, g) })
	return true
}

// alive asks the operators' listener, as a probe would.
func alive(ctx context.Context, g *gateway.Gateway) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+local(g.Addrs().Admin)+"/healthz", nil)
	if err != nil {
		return err
	}
	req.Close = true // The process that answers next may be another.
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("/healthz is answered %s", res.Status)
	}
	return nil
}

// report logs what systemd could not be told: no reason to do anything else.
func (l *life) report(err error) {
	if err != nil {
		l.log.Warn("the service manager", "error", err)
	}
}
