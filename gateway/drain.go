package gateway

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-gateway/sluice/gateway/listen"
)

// ErrReplaced is the cause with which the context of Run ends when another
// process serves on the same sockets already (context.WithCancelCause): nobody
// has to notice that this one goes, so its drain begins at once, and probes are
// not told.
var ErrReplaced = errors.New("replaced by another process")

const (
	// lastAsk is how long a connection of HTTP/1 must have been silent, while the
	// gateway drains, to be closed: its client may be about to ask once more. It is
	// a quarter of the grace at most.
	lastAsk = time.Second
	// lookAgain is how often the drain looks at what is left.
	lookAgain = 10 * time.Millisecond
	// hardStop is how long handlers may go on after the grace, when their
	// connections are gone: one that does not notice is left behind.
	hardStop = time.Second
)

// drain is how the gateway ends. The zero drain has not begun.
type drain struct {
	began    atomic.Int64 // Unix nanoseconds; 0 means not yet
	spread   atomic.Int64 // over so many nanoseconds connections are asked to close
	replaced atomic.Bool
}

func (d *drain) begin(spread time.Duration, replaced bool) {
	d.spread.Store(int64(spread))
	d.replaced.Store(replaced)
	d.began.Store(time.Now().UnixNano())
}

// closing says whether the connection of the answer that is about to be sent
// should be its last, by Connection: close (HTTP/2 makes a GOAWAY of it). While
// the gateway still accepts, that is a matter of chance, more likely the later it
// is: all clients at once would come back at once.
func (d *drain) closing() bool {
	began := d.began.Load()
	if began == 0 {
		return false
	}
	spread, passed := d.spread.Load(), time.Now().UnixNano()-began
	return passed >= spread || rand.Int64N(spread) < passed //nolint:gosec // Chance, not a secret.
}

// ready is what /readyz says. A process that was replaced is asked only on old
// connections, and the service is there.
func (d *drain) ready() error {
	if d.began.Load() != 0 && !d.replaced.Load() {
		return errors.New("draining")
	}
	return nil
}

// last makes the answers of h the last on their connections once the gateway
// drains, and where nothing may be read behind a request.
func (d *drain) last(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		listen.Settle(w, r)
		if d.closing() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// drainAll ends serving without dropping what is in flight: not ready first, then
// no more connections, then nothing more on those there are, and a hard stop
// when the grace is over.
func (g *Gateway) drainAll(cause error, s *servers) {
	began := time.Now()
	g.reload.stop() // What is ready now goes away: nothing else takes its place.
	c := g.serving().cfg.GetShutdown()
	notReadyFor, grace := c.GetNotReadyFor().AsDuration(), c.GetGrace().AsDuration()
	replaced := errors.Is(cause, ErrReplaced)
	if replaced {
		notReadyFor = 0
	}
	g.log.Info("draining", "replaced", replaced, "not_ready_for", notReadyFor.String(), "grace", grace.String())
	g.drain.begin(notReadyFor, replaced)
	if !replaced {
		g.rpc.Drain()
	}
	time.Sleep(notReadyFor)
	s.halt(replaced)

	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	// Half the grace is for streams to end by themselves; an order can be watched
	// for an hour.
	streams := time.AfterFunc(grace/2, g.endStreams)
	defer streams.Stop()
	var all errgroup.Group
	all.Go(func() error { return drainHTTP(ctx, s.http, s.ls.http, grace) })
	all.Go(func() error { g.drainGRPC(ctx); return nil })
	if replaced {
		all.Go(func() error { return drainHTTP(ctx, s.admin, s.ls.admin, grace) })
	}
	if err := all.Wait(); err != nil {
		g.log.Warn("the grace is over: what was in flight is cut off", "error", err)
	}
	g.log.Info("drained", "took", time.Since(began).Round(time.Millisecond).String())
}

// drainHTTP ends a server of HTTP. Its answers say by now that they are the last
// on their connections; so what rests has heard nothing since, and gets a last
// chance.
func drainHTTP(ctx context.Context, s *http.Server, l *listen.Listener, grace time.Duration) error {
	silent := min(lastAsk, grace/4)
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	// Whoever sends a request byte by byte does not hold up the rest.
	for end := time.Now().Add(3 * silent); l.CloseIdle(silent) > 0 && ctx.Err() == nil && time.Now().Before(end); {
		<-look.C
	}
	err := s.Shutdown(ctx)
	// What was taken over from the server (WebSockets) is not the server's any more.
	for err == nil && l.Open() > 0 {
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-look.C:
		}
	}
	if err != nil {
		err = errors.Join(err, s.Close())
		l.CloseAll()
	}
	return err
}

// drainGRPC ends the gRPC server: GOAWAY, what is in flight, and after the grace
// whatever is left. GracefulStop has no deadline of its own, and Stop waits for
// handlers, also for one that takes no notice.
func (g *Gateway) drainGRPC(ctx context.Context) {
	stop := context.AfterFunc(ctx, g.rpc.GRPC().Stop)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.rpc.GRPC().GracefulStop()
	}()
	g.rpc.Leave()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	select {
	case <-done:
	case <-time.After(hardStop):
		g.log.Error("gRPC handlers go on after their connections: they are left behind")
	}
}
