package rest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// maskOf reads masks of a message with the fields a, b and c; it counts the
// texts that it has compiled.
func maskOf(compiled *atomic.Int64) func(string) (*transcode.Mask, error) {
	return func(paths string) (*transcode.Mask, error) {
		compiled.Add(1)
		var unknown []string
		for p := range strings.SplitSeq(paths, ",") {
			switch {
			case p == "":
				return nil, errors.New("transcode: an empty path at byte 0")
			case strings.HasPrefix(p, "flood"):
			case !slices.Contains([]string{"a", "b", "c"}, p):
				unknown = append(unknown, p)
			}
		}
		if unknown != nil {
			return nil, &transcode.UnknownPathsError{Paths: unknown}
		}
		return new(transcode.Mask), nil
	}
}

func fieldErrors(t *testing.T, err error) []httpedge.FieldError {
	t.Helper()
	if err == nil {
		return nil
	}
	p := httpedge.NewProblem(status.Convert(err), "id")
	if p.Status != http.StatusBadRequest || p.Code != "INVALID_ARGUMENT" || len(p.Errors) == 0 {
		t.Errorf("problem %+v", p)
	}
	return p.Errors
}

func TestTakeMask(t *testing.T) {
	const twice = "is given more than once: one of `fields`, `$fields` and X-Goog-FieldMask is enough"
	long := strings.Repeat("a,", maxMaskBytes/2)
	for _, c := range []struct {
		name   string
		own    bool
		raw    bool
		query  string
		header []string
		masked bool
		bad    []httpedge.FieldError
		left   string // of the query
	}{
		{name: "nothing"},
		{name: "other parameters", query: "x=1&y=2", left: "x=1&y=2"},
		{name: "fields", query: "fields=a&x=1", masked: true, left: "x=1"},
		{name: "$fields", query: "%24fields=a,b", masked: true},
		{name: "escaped", query: "f%69elds=a%2Cb", masked: true},
		{name: "header", header: []string{"a"}, query: "x=1", masked: true, left: "x=1"},
		{name: "all", query: "fields=*"},
		{name: "empty is all", query: "fields="},
		{name: "no value is all", query: "fields"},
		{name: "an empty header is all", header: []string{""}},
		{name: "a field of the request's own", own: true, query: "fields=nonsense", left: "fields=nonsense"},
		{name: "$fields beside it", own: true, query: "fields=nonsense&$fields=a", masked: true, left: "fields=nonsense"},
		{name: "the header beside it", own: true, query: "fields=nonsense", header: []string{"a"}, masked: true, left: "fields=nonsense"},
		{name: "twice", query: "fields=a&fields=a", bad: []httpedge.FieldError{{Field: "fields", Reason: twice}}},
		{name: "once empty", query: "fields=a&fields=", bad: []httpedge.FieldError{{Field: "fields", Reason: twice}}},
		{name: "both parameters", query: "$fields=a&fields=b", bad: []httpedge.FieldError{{Field: "fields", Reason: twice}}},
		{name: "parameter and header", query: "$fields=a", header: []string{"a"}, bad: []httpedge.FieldError{{Field: "$fields", Reason: twice}}},
		{name: "two headers", header: []string{"a", "b"}, bad: []httpedge.FieldError{{Field: "X-Goog-FieldMask", Reason: twice}}},
		{name: "unknown", query: "fields=a,d,e.f", bad: []httpedge.FieldError{{Field: "fields", Reason: `unknown path "d"`}, {Field: "fields", Reason: `unknown path "e.f"`}}},
		{name: "unknown in the header", header: []string{"d"}, bad: []httpedge.FieldError{{Field: "X-Goog-FieldMask", Reason: `unknown path "d"`}}},
		{name: "unknown, unprintable", query: "fields=%00%0d%0aa", bad: []httpedge.FieldError{{Field: "fields", Reason: `unknown path "\x00\r\na"`}}},
		{name: "no list", query: "fields=,", bad: []httpedge.FieldError{{Field: "fields", Reason: "an empty path at byte 0"}}},
		{name: "no UTF-8", query: "fields=%ff", bad: []httpedge.FieldError{{Field: "fields", Reason: "must be UTF-8"}}},
		{name: "no UTF-8 in the header", header: []string{"\xff"}, bad: []httpedge.FieldError{{Field: "X-Goog-FieldMask", Reason: "must be UTF-8"}}},
		{name: "too long", query: "fields=" + long + "a", bad: []httpedge.FieldError{{Field: "fields", Reason: "is longer than 2048 bytes"}}},
		{name: "just not too long", query: "fields=" + long[:len(long)-1], masked: true},
		{name: "a picture", raw: true, query: "fields=a", bad: []httpedge.FieldError{{Field: "fields", Reason: "this answer is not JSON: it has no fields to choose from"}}},
		{name: "all of a picture", raw: true, query: "fields=*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fieldMasks{own: c.own}
			if !c.raw {
				f.compile = maskOf(new(atomic.Int64))
			}
			query, err := url.ParseQuery(c.query)
			if err != nil {
				t.Fatal(err)
			}
			h := http.Header{}
			for _, v := range c.header {
				h.Add("x-goog-fieldmask", v)
			}
			m, _, err := f.take(h, query)
			if bad := fieldErrors(t, err); !slices.Equal(bad, c.bad) {
				t.Errorf("errors %q, want %q", bad, c.bad)
			}
			if (m != nil) != c.masked {
				t.Errorf("a mask: %v, want %v", m != nil, c.masked)
			}
			if want, _ := url.ParseQuery(c.left); err == nil && query.Encode() != want.Encode() {
				t.Errorf("left of the query: %v, want %v", query, want)
			}
		})
	}
}

// What is wrong everywhere is not told for ever.
func TestBadMaskIsBounded(t *testing.T) {
	f := &fieldMasks{compile: maskOf(new(atomic.Int64))}
	_, _, err := f.take(nil, url.Values{"fields": {strings.TrimSuffix(strings.Repeat("x,", 1000), ",")}})
	bad := fieldErrors(t, err)
	if len(bad) != maxFindings+1 || bad[maxFindings].Reason != "and 980 more unknown paths" {
		t.Errorf("%d errors, the last %q", len(bad), bad[len(bad)-1])
	}
}

func TestMasksAreForGetsAlone(t *testing.T) {
	var f *fieldMasks
	query := url.Values{"fields": {"a"}}
	if m, _, err := f.take(http.Header{fieldsKey: {"a"}}, query); m != nil || err != nil || len(query) != 1 {
		t.Errorf("mask %v, error %v, query %v", m, err, query)
	}
	h := http.Header{}
	f.mark(h)
	(&fieldMasks{}).mark(h)
	if len(h) != 0 {
		t.Errorf("headers %v of answers that no mask changes", h)
	}
	(&fieldMasks{compile: maskOf(new(atomic.Int64))}).mark(h)
	if !slices.Equal(h["Vary"], []string{"X-Goog-FieldMask"}) {
		t.Errorf("Vary %q", h["Vary"])
	}
}

// Compiled once, and found again without an allocation.
func TestMasksAreRemembered(t *testing.T) {
	var compiled atomic.Int64
	f := &fieldMasks{compile: maskOf(&compiled)}
	for range 10 {
		if _, _, err := f.take(nil, url.Values{"fields": {"a,b"}}); err != nil {
			t.Fatal(err)
		}
	}
	if compiled.Load() != 1 {
		t.Errorf("compiled %d times", compiled.Load())
	}
	for range 10 { // Mistakes are not: they would take the place of what is right.
		if _, _, err := f.take(nil, url.Values{"fields": {"d"}}); err == nil {
			t.Fatal("no error")
		}
	}
	if compiled.Load() != 11 {
		t.Errorf("compiled %d times", compiled.Load())
	}
	long := strings.TrimSuffix(strings.Repeat("a,", maxKnownMask/2+1), ",")
	for range 2 {
		if _, _, err := f.take(nil, url.Values{"fields": {long}}); err != nil {
			t.Fatal(err)
		}
	}
	if compiled.Load() != 13 {
		t.Errorf("a long mask was remembered: compiled %d times", compiled.Load())
	}
	h := http.Header{fieldsKey: {"a,b"}}
	if n := testing.AllocsPerRun(100, func() { _, _, _ = f.take(h, nil) }); n != 0 {
		t.Errorf("a mask that is known costs %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _, _ = f.take(nil, nil) }); n != 0 {
		t.Errorf("no mask costs %v allocations", n)
	}
}

// A flood of different masks does not push out those that are asked for again,
// and does not grow what is kept.
func TestMaskFlood(t *testing.T) {
	var compiled atomic.Int64
	f := &fieldMasks{compile: maskOf(&compiled)}
	usual := []string{"a", "b", "c", "a,b", "b,c", "a,b,c"}
	ask := func(text string) {
		if _, _, err := f.take(nil, url.Values{"fields": {text}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range usual {
		ask(text)
		ask(text)
	}
	compiled.Store(0)
	const rounds, flood = 200, 50
	for round := range rounds {
		for i := range flood {
			ask(fmt.Sprintf("flood-%d-%d", round, i))
		}
		for _, text := range usual {
			ask(text)
		}
	}
	// By chance four of the usual may share a set; then some are compiled again.
	if again := compiled.Load() - rounds*flood; again > rounds*int64(len(usual))/2 {
		t.Errorf("of %d questions for usual masks, %d compiled", rounds*len(usual), again)
	}
	kept := 0
	for i := range f.known.sets {
		for j := range f.known.sets[i] {
			if f.known.sets[i][j].Load() != nil {
				kept++
			}
		}
	}
	if kept > maskSets*maskWays || kept < maskSets {
		t.Errorf("%d masks are kept", kept)
	}
}

// When what is usual changes, the new takes the place of the old.
func TestMasksAreForgotten(t *testing.T) {
	var compiled atomic.Int64
	f := &fieldMasks{compile: maskOf(&compiled)}
	for generation := range 3 {
		for range 20 {
			for i := range 60 {
				if _, _, err := f.take(nil, url.Values{"fields": {fmt.Sprintf("flood-%d-%d", generation, i)}}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if n := compiled.Load(); n > 3*20*60/2 {
		t.Errorf("of %d questions, %d compiled", 3*20*60, n)
	}
}

// Nobody waits for another's compiling.
func TestMasksConcurrently(t *testing.T) {
	stuck, entered := make(chan struct{}), make(chan struct{})
	f := &fieldMasks{compile: func(paths string) (*transcode.Mask, error) {
		if paths == "slow" {
			close(entered)
			<-stuck
		}
		return new(transcode.Mask), nil
	}}
	var wg sync.WaitGroup
	wg.Go(func() { _, _, _ = f.take(nil, url.Values{"fields": {"slow"}}) })
	<-entered
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				m, _, err := f.take(nil, url.Values{"fields": {fmt.Sprint(g * i % 300)}})
				if m == nil || err != nil {
					t.Errorf("mask %v, error %v", m, err)
					return
				}
				runtime.Gosched()
			}
		})
	}
	for i := range 10 {
		_, _, _ = f.take(nil, url.Values{"fields": {fmt.Sprint(i)}})
	}
	close(stuck)
	wg.Wait()
}

func FuzzTakeMask(f *testing.F) {
	for _, s := range []string{"fields=a,b", "$fields=a&x=1", "fields=%00", "fields=a&$fields=", "f%69elds=*", "fields=a.b(c,d)/e"} {
		f.Add(s, "", false)
	}
	f.Add("", "a,b", true)
	f.Fuzz(func(t *testing.T, query, header string, own bool) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		h := http.Header{}
		if header != "" {
			h[fieldsKey] = []string{header}
		}
		given := len(values["$fields"]) + len(h[fieldsKey])
		if !own {
			given += len(values["fields"])
		}
		masks := &fieldMasks{own: own, compile: maskOf(new(atomic.Int64))}
		m, _, err := masks.take(h, values)
		if err != nil && (m != nil || given == 0) {
			t.Fatalf("%q, %q: mask %v, error %v", query, header, m, err)
		}
		if given > 1 && err == nil {
			t.Fatalf("%q, %q: %d masks were taken", query, header, given)
		}
		if _, left := values["$fields"]; left || !own && values["fields"] != nil {
			t.Fatalf("%q: left %v", query, values)
		}
		fieldErrors(t, err)
	})
}

func BenchmarkTakeMask(b *testing.B) {
	f := &fieldMasks{compile: maskOf(new(atomic.Int64))}
	h := http.Header{fieldsKey: {"a,b,c"}}
	b.Run("none", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = f.take(nil, nil)
		}
	})
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _, _ = f.take(h, nil)
		}
	})
	b.Run("known_parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_, _, _ = f.take(h, nil)
			}
		})
	})
}
