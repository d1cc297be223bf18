package watch

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// history is a source whose revisions a test sets.
type history struct {
	mu        sync.Mutex
	revisions map[string]int64
	asked     [][]string
	err       error
}

func (h *history) Revisions(_ context.Context, ids []string, report func(string, int64)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, ids)
	for _, id := range ids {
		if r, ok := h.revisions[id]; ok && h.err == nil {
			report(id, r)
		}
	}
	return h.err
}

func (h *history) set(id string, revision int64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.revisions[id], h.err = revision, err
}

// take returns what was asked since it was last called.
func (h *history) take() [][]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	asked := h.asked
	h.asked = nil
	return asked
}

func awake(w *Watcher) bool {
	select {
	case <-w.Wake():
		return true
	default:
		return false
	}
}

// in runs a test with a hub on a clock of its own.
func in(t *testing.T, test func(h *Hub, source *history, log *bytes.Buffer)) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		source, log := &history{revisions: map[string]int64{}}, &bytes.Buffer{}
		h := New(Options{Source: source, Interval: time.Second, Logger: slog.New(slog.NewTextHandler(log, nil))})
		defer h.Close()
		test(h, source, log)
	})
}

// tick lets one poll pass.
func tick() {
	time.Sleep(time.Second)
	synctest.Wait()
}

func TestPollWakesForLaterRevisions(t *testing.T) {
	in(t, func(h *Hub, source *history, _ *bytes.Buffer) {
		tick()
		if asked := source.take(); len(asked) != 0 {
			t.Errorf("asked %v though nobody watches", asked)
		}
		w, other := h.Watch("a"), h.Watch("b")
		defer other.Close()
		w.Seen(1)
		other.Seen(5)
		for _, step := range []struct {
			revision int64
			wakes    bool
		}{{1, false}, {2, true}, {2, true}, {3, true}} { // Until it is seen, every poll wakes.
			source.set("a", step.revision, nil)
			source.set("b", 5, nil)
			tick()
			if awake(w) != step.wakes || awake(other) {
				t.Errorf("at revision %d: woke %v", step.revision, !step.wakes)
			}
		}
		w.Seen(3)
		tick()
		if awake(w) {
			t.Error("woken for what was seen")
		}
		w.Close()
		source.take()
		tick()
		if asked := source.take(); len(asked) != 1 || len(asked[0]) != 1 || asked[0][0] != "b" {
			t.Errorf("asked %v after a watch ended", asked)
		}
	})
}

// TestSlowWatcherHoldsNothing: however much happens, one wake is kept.
func TestSlowWatcherHoldsNothing(t *testing.T) {
	in(t, func(h *Hub, _ *history, _ *bytes.Buffer) {
		slow := h.Watch("a")
		for r := range int64(10_000) {
			h.Changed("a", r+1)
			h.Changed("unwatched", r+1)
		}
		if !awake(slow) || awake(slow) {
			t.Error("the watcher is not woken once")
		}
		slow.Close()
		slow.Close() // Harmless.
		if len(h.watchers) != 0 {
			t.Errorf("%d orders are remembered", len(h.watchers))
		}
	})
}

func TestFailingPollsAreLoggedOnce(t *testing.T) {
	in(t, func(h *Hub, source *history, log *bytes.Buffer) {
		w := h.Watch("a")
		defer w.Close()
		for _, err := range []error{errors.New("down"), errors.New("down"), nil, errors.New("down again")} {
			source.set("a", 1, err)
			tick()
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 2 {
			t.Errorf("logged %d times, want once each time it began to fail:\n%s", n, log)
		}
		if !awake(w) {
			t.Error("the poll that succeeded did not wake")
		}
	})
}

func TestDrain(t *testing.T) {
	in(t, func(h *Hub, _ *history, _ *bytes.Buffer) {
		h.Drain()
		h.Drain()
		<-h.Draining()
	})
}
