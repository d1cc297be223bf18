package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/tools/bench/load"
)

const (
	// soakPoints is how often the soak looks at the process; the first look ends
	// the warm-up and is what the others are held against.
	soakPoints = 6
	// abortEvery is how often a client goes away before its answer.
	abortEvery = 10
)

// soak sends requests of all works that read over HTTP, every tenth of them given up in mid-flight,
// and fails when the process then holds more than after the warm-up.
func soak(ctx context.Context, s settings, g *process, out io.Writer) error {
	asked := gets()
	for _, w := range asked {
		if err := verify(ctx, w, g); err != nil {
			return err
		}
	}
	warm, err := runner{p: g, w: asked[0], conns: s.conns}.closed(ctx, load.Bounds{Requests: 200 * s.conns, For: 5 * time.Second})
	if err != nil {
		return err
	}
	var points []footprint
	sent, aborted := 0, 0
	for point := range soakPoints {
		upTo := s.soakRequests * (point + 1) / soakPoints
		n, err := soakStretch(ctx, s, g, upTo-sent, 2*warm.P50)
		if err != nil {
			return err
		}
		sent, aborted = upTo, aborted+n
		f, err := settled(ctx, g)
		if err != nil {
			return err
		}
		f.Requests = sent
		points = append(points, f)
		if _, err := fmt.Fprintf(out, "%s: %7d requests, %5d aborted: %6.1f MiB resident, %5.1f MiB heap, %d goroutines\n",
			g.name, sent, aborted, mib(f.RSS), mib(f.Heap), f.Goroutines); err != nil {
			return err
		}
	}
	if aborted < s.soakRequests/abortEvery/10 {
		return fmt.Errorf("only %d of %d requests were given up before their answer: the soak shows nothing", aborted, s.soakRequests/abortEvery)
	}
	return level(points)
}

// soakStretch sends so many requests and says how many were given up. Requests
// that are not to be given up must be answered with 200.
func soakStretch(ctx context.Context, s settings, g *process, requests int, patience time.Duration) (aborted int, err error) {
	client, closeIdle := newClient(s.conns)
	defer closeIdle()
	asked := gets()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next, gone atomic.Int64
	var workers sync.WaitGroup
	for range s.conns {
		workers.Go(func() {
			for n := next.Add(1); n <= int64(requests) && ctx.Err() == nil; n = next.Add(1) {
				p := asked[n%int64(len(asked))].target
				abort := n%abortEvery == 0
				err := askImpatiently(ctx, client, g, p, abort, patience)
				switch {
				case err == nil:
				case abort && errors.Is(err, context.DeadlineExceeded):
					gone.Add(1)
				default:
					cancel(fmt.Errorf("GET %s: %w", p, err))
				}
			}
		})
	}
	workers.Wait()
	return int(gone.Load()), context.Cause(ctx)
}

// askImpatiently gives up, when told to, at some moment within patience.
func askImpatiently(ctx context.Context, client *http.Client, g *process, path string, abort bool, patience time.Duration) error {
	if abort {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.Int64N(int64(patience))+1)) //nolint:gosec // no secret
		defer cancel()
	}
	return send(ctx, client, "http://"+g.addr+path, g.token, io.Discard)
}

// gets are the works that only read over HTTP.
func gets() (out []*work) {
	for i := range works {
		if works[i].method == http.MethodGet {
			out = append(out, &works[i])
		}
	}
	return out
}

// settled looks at the process once it has come to rest: what aborted requests
// left behind may take a moment to end.
func settled(ctx context.Context, g *process) (footprint, error) {
	best, err := g.footprint(ctx)
	for range 20 {
		if err != nil {
			return best, err
		}
		select {
		case <-ctx.Done():
			return best, ctx.Err()
		case <-g.exited:
			return best, g.died()
		case <-time.After(100 * time.Millisecond):
		}
		var f footprint
		if f, err = g.footprint(ctx); err == nil && f.Goroutines >= best.Goroutines {
			return f, nil
		}
		best = f
	}
	return best, err
}

// level says whether later points hold no more than the first. What is allowed
// above it is more than a healthy process was seen to vary by; over 100,000
// requests, a goroutine lost in every thousandth or 1 KiB in every tenth is found.
func level(points []footprint) error {
	first := points[0]
	var errs []error
	for _, p := range points[1:] {
		for _, c := range []struct {
			what       string
			now, bound int64
		}{
			{"goroutines", p.Goroutines, first.Goroutines + 20},
			{"bytes of heap", p.Heap, first.Heap + first.Heap/4 + 4<<20},
			{"bytes resident", p.RSS, first.RSS + first.RSS/4 + 16<<20},
		} {
			if c.now > c.bound {
				errs = append(errs, fmt.Errorf("after %d requests: %d %s, more than the %d allowed after the warm-up", p.Requests, c.now, c.what, c.bound))
			}
		}
	}
	return errors.Join(errs...)
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
