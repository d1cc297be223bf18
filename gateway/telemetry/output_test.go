package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestOutput: lines of the access log wait, but not for long; a line of the log
// goes out at once, with what waited before it; closing writes the rest, and what
// comes then is written, too.
func TestOutput(t *testing.T) {
	var b lockedBuffer
	o := NewOutput(&b)
	tele := New(Options{Metrics: NewMetrics(), Tracer: untraced(), Output: o})
	log, call := slog.New(slog.NewJSONHandler(o, nil)), callOfAda()
	lines := func() int { return strings.Count(b.String(), "\n") }

	getUser(tele, http.Header{}, call)
	log.Warn("something happens")
	if n := lines(); n != 2 {
		t.Fatalf("%d lines after one of the log, want 2", n)
	}
	if first, _, _ := strings.Cut(b.String(), "\n"); !strings.Contains(first, `"msg":"request"`) {
		t.Errorf("the first line is %s", first)
	}
	getUser(tele, http.Header{}, call)
	for end := time.Now().Add(10 * time.Second); lines() != 3; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a line waits for ever")
		}
	}
	getUser(tele, http.Header{}, call)
	if err := o.Flush(); err != nil || lines() != 4 {
		t.Errorf("%d lines when flushed, %v", lines(), err)
	}
	getUser(tele, http.Header{}, call)
	for n := range 3 { // A second time, and lines in between.
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		if lines() != 5+n {
			t.Errorf("%d lines when closed, want %d", lines(), 5+n)
		}
		getUser(tele, http.Header{}, call)
	}
}

// TestOutputWithoutLines leaves nothing behind (TestMain looks for goroutines).
func TestOutputWithoutLines(t *testing.T) {
	var b lockedBuffer
	o := NewOutput(&b)
	if err := o.Close(); err != nil || b.Len() > 0 {
		t.Errorf("%v, %q", err, b.String())
	}
	getUser(New(Options{Metrics: NewMetrics(), Tracer: untraced(), Output: o}), http.Header{}, callOfAda())
	if !strings.HasSuffix(b.String(), "}\n") {
		t.Errorf("a line after the end: %q", b.String())
	}
}

// writes notes what is written at once.
type writes struct {
	mu    sync.Mutex
	parts [][]byte
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.parts = append(w.parts, bytes.Clone(p))
	return len(p), nil
}

// TestOutputWritesWholeLines, many at once, however long they are, and loses none.
func TestOutputWritesWholeLines(t *testing.T) {
	w := &writes{}
	o := NewOutput(w)
	tele := New(Options{Metrics: NewMetrics(), Tracer: untraced(), Output: o})
	log := slog.New(slog.NewJSONHandler(o, nil))
	const callers, each = 4, 2000
	var work sync.WaitGroup
	for range callers {
		work.Go(func() {
			call := callOfAda()
			for i := range each {
				call.DeniedBy, call.Why = "conditions", strings.Repeat("x", i%300)
				if i == each/2 {
					call.Why = strings.Repeat("y", 2*outputBuffer)
				}
				getUser(tele, http.Header{}, call)
				if i%500 == 0 {
					log.Info("other", "i", i)
				}
			}
		})
	}
	work.Wait()
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, p := range w.parts {
		if len(p) > outputBuffer && bytes.Count(p, []byte("\n")) != 1 || p[len(p)-1] != '\n' {
			t.Fatalf("written at once: %d bytes that end with %q", len(p), p[max(0, len(p)-40):])
		}
		for l := range bytes.Lines(p) {
			var line struct{ Msg string }
			if err := json.Unmarshal(l, &line); err != nil {
				t.Fatalf("%v: %.80s", err, l)
			}
			count[line.Msg]++
		}
	}
	if count["request"] != callers*each || count["other"] != callers*each/500 {
		t.Errorf("%v", count)
	}
	if len(w.parts) > callers*each/20 {
		t.Errorf("%d writes of %d lines", len(w.parts), callers*each)
	}
}

// full is a disk that has room for so many bytes.
type full struct {
	bytes.Buffer
	room int
}

func (f *full) Write(p []byte) (int, error) {
	n := min(len(p), f.room)
	f.room -= n
	f.Buffer.Write(p[:n])
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

// TestOutputGoesOn after a disk was full: what did not fit is lost, and the next
// line stands alone.
func TestOutputGoesOn(t *testing.T) {
	for _, room := range []int{0, 1, 9, 10, 11} { // A line is 10 bytes.
		f := &full{room: 10 + room}
		o := NewOutput(f)
		write := func(s string) {
			if _, err := o.Write([]byte(s + "\n")); err != nil {
				t.Fatal(err)
			}
		}
		write(`{"n":"1"}`)
		write(`{"n":"2"}`)
		write(`{"n":"3"}`)
		f.room = 1000
		write(`{"n":"4"}`)
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(f.String()), "\n")
		if lines[0] != `{"n":"1"}` || lines[len(lines)-1] != `{"n":"4"}` {
			t.Errorf("room for %d more: %q", room, f.String())
		}
	}
}
