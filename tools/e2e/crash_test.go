package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

const (
	crashes     = 4
	writers     = 6
	ackedByThen = 25 // orders acknowledged before the kill, at least
)

// sent is a request to place an order, and what became of it.
type sent struct {
	note string // the order's, and the key of the request
	id   string // of the order; empty where the answer was lost
}

// TestNoOrderIsLost: the process is killed under concurrent writers, again and
// again. Every order that was acknowledged is there afterwards, and a request
// whose answer was lost can be sent again without ordering twice.
func TestNoOrderIsLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := startGateway(t, setup{dir: dir})
	token := g.token(t)
	var before []sent
	for round := range crashes {
		requests := crash(t, g, token, round)
		g = startGateway(t, setup{dir: dir})
		lost := 0
		for i, r := range requests {
			if r.id == "" {
				lost++
			}
			requests[i] = r.again(t, g, token)
		}
		before = append(before, requests...)
		count := notes(t, g, token)
		for _, r := range before {
			if count[r.note] != 1 {
				t.Errorf("round %d: %d orders %q (%s), want one", round, count[r.note], r.note, r.id)
			}
			var o order
			g.rest(t, "GET", "/v1/orders/"+r.id, token, "").want(t, 200, &o)
			if o.Note != r.note {
				t.Errorf("round %d: order %s is %q, want %q", round, r.id, o.Note, r.note)
			}
		}
		t.Logf("round %d: killed after %d answers, %d requests without one", round, len(requests)-lost, lost)
	}
}

// crash places orders from several clients at once, kills the gateway while they
// do, and returns every request.
func crash(t *testing.T, g *gateway, token string, round int) []sent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var (
		mu    sync.Mutex
		all   []sent
		acked atomic.Int64
		work  sync.WaitGroup
	)
	enough := make(chan struct{})
	for w := range writers {
		work.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				r := sent{note: fmt.Sprintf("round-%d-writer-%d-%d", round, w, n)}
				a, err := r.send(ctx, g, token)
				if err == nil {
					r.id = idOf(t, a)
				}
				mu.Lock()
				all = append(all, r)
				mu.Unlock()
				if err != nil {
					return // The gateway is gone.
				}
				if acked.Add(1) == ackedByThen {
					close(enough)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-ctx.Done():
		t.Errorf("only %d orders were placed", acked.Load())
	}
	g.kill()
	work.Wait()
	return all
}

func (r sent) send(ctx context.Context, g *gateway, token string) (answer, error) {
	return g.send(ctx, "POST", "/v1/users/ada/orders", token, strings.NewReader(orderBody(r.note)), "Idempotency-Key", r.note)
}

// idOf is the order that was acknowledged. It is called from other goroutines.
func idOf(t *testing.T, a answer) string {
	var o order
	if err := json.Unmarshal(a.body, &o); err != nil || a.status != 201 || o.OrderID == "" {
		t.Errorf("order: %d %s", a.status, a.body)
	}
	return o.OrderID
}

// again sends the request once more: what was acknowledged is answered as it was.
func (r sent) again(t *testing.T, g *gateway, token string) sent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, err := r.send(ctx, g, token)
	if err != nil {
		t.Fatal(err)
	}
	id := idOf(t, a)
	if r.id != "" && (id != r.id || a.header.Get("Idempotency-Replayed") != "true") {
		t.Errorf("%s: order %s was acknowledged, now it is %s (replayed: %q)", r.note, r.id, id, a.header.Get("Idempotency-Replayed"))
	}
	return sent{note: r.note, id: id}
}
