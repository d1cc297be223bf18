package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
)

const (
	warmUp     = 500
	soakRounds = 3
	perRound   = 1500
	abortEvery = 10
	soakers    = 8
	// abortBy is the latest moment at which an impatient client gives up; nearly all
	// requests here take longer than a part of it.
	abortBy = 4 * time.Millisecond
)

// TestSoak: after 5,000 requests over both edges, every tenth given up by its
// client in mid-flight, the gateway holds no more than
// after the first 500. tools/bench -soak does the same for longer.
func TestSoak(t *testing.T) {
	k := makeKeys(t)
	users := startService(t, service{name: "user", k: k})
	config := remote(k, map[string]*service{userService: users})
	config["log"] = object{"access_off": true} // It is kept here, and would grow.
	g := startGateway(t, setup{config: config})
	token := g.token(t)
	id := place(t, g, token, "never cancelled")
	soak(t, g, token, id, warmUp)
	first := settled(t, g)
	aborted := 0
	for range soakRounds {
		aborted += soak(t, g, token, id, perRound)
	}
	last := settled(t, g)
	t.Logf("%d requests, %d given up: goroutines %d -> %d, heap %d -> %d KiB", warmUp+soakRounds*perRound, aborted,
		first.goroutines, last.goroutines, first.heap>>10, last.heap>>10)
	if aborted < soakRounds*perRound/abortEvery/4 {
		t.Errorf("only %d requests were given up before their answer: the soak shows nothing", aborted)
	}
	if last.goroutines > first.goroutines+20 {
		t.Errorf("%d goroutines, %d after the warm-up:\n%s", last.goroutines, first.goroutines, last.stacks)
	}
	if last.heap > first.heap+first.heap/4+4<<20 {
		t.Errorf("%d bytes of heap, %d after the warm-up", last.heap, first.heap)
	}
}

// soak sends so many requests and says how many their clients have given up. The
// others must succeed.
func soak(t *testing.T, g *gateway, token, watched string, requests int) (aborted int) {
	t.Helper()
	var next, gone atomic.Int64
	var work sync.WaitGroup
	for range soakers {
		work.Go(func() {
			for n := next.Add(1); n <= int64(requests); n = next.Add(1) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				impatient := n%abortEvery == 0
				if impatient {
					cancel()
					ctx, cancel = context.WithTimeout(t.Context(), time.Duration(rand.Int64N(int64(abortBy))))
				}
				err := oneOf(ctx, g, token, watched, n/abortEvery, impatient)
				gaveUp := errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded
				cancel()
				switch {
				case impatient && gaveUp:
					gone.Add(1)
				case err != nil:
					t.Errorf("request %d: %v", n, err)
				}
			}
		})
	}
	work.Wait()
	return int(gone.Load())
}

// oneOf makes one of the requests. The impatient ones may watch, too, which ends
// only when they give up.
func oneOf(ctx context.Context, g *gateway, token, watched string, n int64, impatient bool) error {
	over := func(path string) error {
		a, err := g.send(ctx, "GET", path, token, nil)
		if err == nil && a.status != 200 {
			err = fmt.Errorf("%s: %d %s", path, a.status, a.body)
		}
		return err
	}
	switch kinds := int64(4); {
	case impatient && n%6 == 4:
		return over("/v1/orders/" + watched + ":watch")
	case impatient && n%6 == 5:
		s, err := orderv1.NewOrderServiceClient(g.conn).WatchOrder(withToken(ctx, token), &orderv1.WatchOrderRequest{OrderId: watched})
		for err == nil {
			_, err = s.Recv()
		}
		return err
	case n%kinds == 0:
		return over("/v1/users/ada/overview")
	case n%kinds == 1:
		return over("/v1/users/ada/orders")
	case n%kinds == 2:
		return over("/v1/users/ada")
	default:
		_, err := bffv1.NewBffServiceClient(g.conn).GetUserOverview(withToken(ctx, token), &bffv1.GetUserOverviewRequest{UserId: "ada"})
		return err
	}
}

// footprint is what the gateway holds.
type footprint struct {
	goroutines, heap int64
	stacks           string
}

// settled looks at the gateway when what was given up has had time to end: when
// there are no fewer goroutines than a moment before.
func settled(t *testing.T, g *gateway) footprint {
	t.Helper()
	look := func() (f footprint) {
		f.heap, _ = profile(t, g, "/debug/pprof/heap?gc=1&debug=1", "# HeapInuse = ")
		f.goroutines, f.stacks = profile(t, g, "/debug/pprof/goroutine?debug=1", "goroutine profile: total ")
		return f
	}
	best := look()
	for range 20 {
		time.Sleep(100 * time.Millisecond)
		f := look()
		if f.goroutines >= best.goroutines {
			return f
		}
		best = f
	}
	return best
}

// profile returns the number that follows label in a page of the admin listener,
// and the page.
func profile(t *testing.T, g *gateway, path, label string) (int64, string) {
	t.Helper()
	page := string(g.atAdmin(t, path).body)
	lines := bufio.NewReader(strings.NewReader(page))
	for {
		line, err := lines.ReadString('\n')
		if rest, ok := strings.CutPrefix(line, label); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n, page
		}
		if errors.Is(err, io.EOF) {
			t.Fatalf("%s: no line starts with %q", path, label)
		}
	}
}
