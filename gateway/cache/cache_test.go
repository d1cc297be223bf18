package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that a test moves.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_700_000_000, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func newCache(t testing.TB, o cache.Options) (*cache.Cache, *clock) {
	t.Helper()
	k := &clock{}
	o.Clock = k.now
	c, err := cache.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c, k
}

func key(r *cache.Route, parts ...string) []byte {
	b := r.AppendKey(nil, policy.Anonymous)
	for _, p := range parts {
		b = cache.AppendPart(b, p)
	}
	return b
}

func body(text string, tags ...string) cache.Fetch {
	return func(context.Context) (*cache.Entry, error) { return &cache.Entry{Body: []byte(text), Tags: tags}, nil }
}

func failing(c codes.Code) cache.Fetch {
	return func(context.Context) (*cache.Entry, error) { return nil, status.Error(c, "no") }
}

// eventually waits for what a goroutine of the cache does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

var full = policy.Cache{Public: true, TTL: 10 * time.Second, StaleWhileRevalidate: 5 * time.Second, StaleIfError: time.Minute, NegativeTTL: 2 * time.Second}

// TestSteps: what a caller is given over time.
func TestSteps(t *testing.T) {
	type step struct {
		after  time.Duration
		fetch  cache.Fetch // what the service would say
		want   cache.Status
		body   string // or
		code   codes.Code
		settle bool // wait for a fetch that nobody waits for
		do     func(*cache.Cache)
	}
	notFound := func(context.Context) (*cache.Entry, error) {
		return &cache.Entry{Err: status.Error(codes.NotFound, "none"), Tags: []string{"t"}}, nil
	}
	for name, test := range map[string]struct {
		rule  policy.Cache
		steps []step
	}{
		"fresh, then old": {policy.Cache{Public: true, TTL: 10 * time.Second}, []step{
			{0, body("1"), cache.Miss, "1", 0, false, nil},
			{9 * time.Second, body("2"), cache.Hit, "1", 0, false, nil},
			{time.Second, body("2"), cache.Miss, "2", 0, false, nil},
		}},
		"stale while revalidated": {full, []step{
			{0, body("1"), cache.Miss, "1", 0, false, nil},
			{11 * time.Second, body("2"), cache.Revalidate, "1", 0, true, nil},
			{0, body("3"), cache.Hit, "2", 0, false, nil},
			{16 * time.Second, body("4"), cache.Miss, "4", 0, false, nil},
		}},
		"revalidation fails": {full, []step{
			{0, body("1"), cache.Miss, "1", 0, false, nil},
			{11 * time.Second, failing(codes.Unavailable), cache.Revalidate, "1", 0, true, nil},
			{time.Second, body("2"), cache.Revalidate, "1", 0, true, nil},
			{0, body("3"), cache.Hit, "2", 0, false, nil},
		}},
		"revalidation finds it gone": {full, []step{
			{0, body("1"), cache.Miss, "1", 0, false, nil},
			{11 * time.Second, failing(codes.PermissionDenied), cache.Revalidate, "1", 0, true, nil},
			{0, failing(codes.PermissionDenied), cache.Miss, "", codes.PermissionDenied, false, nil},
		}},
		"stale if error": {full, []step{
			{0, body("1"), cache.Miss, "1", 0, false, nil},
			{20 * time.Second, failing(codes.Unavailable), cache.Stale, "1", 0, false, nil},
			{0, failing(codes.DeadlineExceeded), cache.Stale, "1", 0, false, nil},
			{0, failing(codes.InvalidArgument), cache.Miss, "", codes.InvalidArgument, false, nil},
			{0, failing(codes.Unavailable), cache.Miss, "", codes.Unavailable, false, nil},
			{0, body("2"), cache.Miss, "2", 0, false, nil},
			{71 * time.Second, failing(codes.Unavailable), cache.Miss, "", codes.Unavailable, false, nil},
		}},
		"failures are not kept": {full, []step{
			{0, failing(codes.Unavailable), cache.Miss, "", codes.Unavailable, false, nil},
			{0, failing(codes.NotFound), cache.Miss, "", codes.NotFound, false, nil},
			{0, body("1"), cache.Miss, "1", 0, false, nil},
		}},
		"negative": {full, []step{
			{0, notFound, cache.Miss, "", codes.NotFound, false, nil},
			{time.Second, body("1"), cache.Negative, "", codes.NotFound, false, nil},
			{time.Second, body("1"), cache.Miss, "1", 0, false, nil},
		}},
		"a negative one is invalidated": {full, []step{
			{0, notFound, cache.Miss, "", codes.NotFound, false, nil},
			{0, body("1"), cache.Miss, "1", 0, false, func(c *cache.Cache) { c.Invalidate("t") }},
		}},
		"invalidated": {full, []step{
			{0, body("1", "t"), cache.Miss, "1", 0, false, nil},
			{0, body("2", "t"), cache.Hit, "1", 0, false, func(c *cache.Cache) { c.Invalidate("other") }},
			{0, body("2", "t"), cache.Miss, "2", 0, false, func(c *cache.Cache) { c.Invalidate("t") }},
			{0, body("3"), cache.Miss, "3", 0, false, func(c *cache.Cache) { c.InvalidateRoute("/a.B/C") }},
			{0, body("4"), cache.Hit, "3", 0, false, func(c *cache.Cache) { c.InvalidateRoute("/a.B/D") }},
			{0, body("4"), cache.Miss, "4", 0, false, func(c *cache.Cache) { c.Purge() }},
		}},
		"no stale answer outlives its invalidation": {full, []step{
			{0, body("1", "t"), cache.Miss, "1", 0, false, nil},
			{11 * time.Second, failing(codes.Unavailable), cache.Miss, "", codes.Unavailable, false, func(c *cache.Cache) { c.Invalidate("t") }},
		}},
		"not to be stored": {full, []step{
			{0, func(context.Context) (*cache.Entry, error) {
				return &cache.Entry{Body: []byte("1"), NoStore: true}, nil
			}, cache.Miss, "1", 0, false, nil},
			{0, body("2"), cache.Miss, "2", 0, false, nil},
		}},
		"the service says for how long": {full, []step{
			{0, func(context.Context) (*cache.Entry, error) {
				return &cache.Entry{Body: []byte("1"), TTL: time.Second}, nil
			}, cache.Miss, "1", 0, false, nil},
			{2 * time.Second, body("2"), cache.Revalidate, "1", 0, true, nil},
		}},
		"too large": {full, []step{
			{0, body(strings.Repeat("x", 4096)), cache.Miss, strings.Repeat("x", 4096), 0, false, nil},
			{0, body("2"), cache.Miss, "2", 0, false, nil},
		}},
		"a panic is a failure": {full, []step{
			{0, func(context.Context) (*cache.Entry, error) { panic("x") }, cache.Miss, "", codes.Unknown, false, nil},
			{0, body("2"), cache.Miss, "2", 0, false, nil},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c, k := newCache(t, cache.Options{MaxBytes: 1 << 20, MaxEntryBytes: 4096})
			r := c.Route("/a.B/C", &test.rule)
			for i, s := range test.steps {
				k.advance(s.after)
				if s.do != nil {
					s.do(c)
				}
				e, got, err := r.Do(t.Context(), key(r, "k"), []string{"t"}, false, s.fetch)
				if got != s.want || status.Code(err) != s.code {
					t.Fatalf("step %d: %v, %v; want %v, %v", i, got, err, s.want, s.code)
				}
				if err == nil && string(e.Body) != s.body {
					t.Fatalf("step %d: %q, want %q", i, e.Body, s.body)
				}
				if s.settle {
					eventually(t, "the fetch ends", func() bool { return c.Stats().Fetches == 0 })
				}
			}
		})
	}
}

// gate is a fetch that waits to be let through.
type gate struct {
	calls   atomic.Int32
	began   chan context.Context
	through chan struct{}
	body    string
	err     error
}

func newGate(text string) *gate {
	return &gate{began: make(chan context.Context, 100), through: make(chan struct{}), body: text}
}

func (g *gate) fetch(ctx context.Context) (*cache.Entry, error) {
	g.calls.Add(1)
	g.began <- ctx
	select {
	case <-g.through:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if g.err != nil {
		return nil, g.err
	}
	return &cache.Entry{Body: []byte(g.body)}, nil
}

// TestCoalesced: a thousand who miss at once are one fetch, and all have its answer,
// although the one who began it leaves.
func TestCoalesced(t *testing.T) {
	c, _ := newCache(t, cache.Options{})
	r := c.Route("/a.B/C", &full)
	g := newGate("x")
	leader, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, _, err := r.Do(leader, key(r, "k"), nil, false, g.fetch)
		left <- err
	}()
	<-g.began
	var waiting, wrong atomic.Int32
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			waiting.Add(1)
			e, s, err := r.Do(t.Context(), key(r, "k"), nil, false, g.fetch)
			if err != nil || string(e.Body) != "x" || s != cache.Coalesced && s != cache.Hit {
				wrong.Add(1)
			}
		})
	}
	eventually(t, "all wait", func() bool { return waiting.Load() == 1000 })
	time.Sleep(10 * time.Millisecond) // Most are within Do by then; those who are not hit.
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the leader: %v", err)
	}
	close(g.through)
	wg.Wait()
	if n := g.calls.Load(); n != 1 || wrong.Load() != 0 {
		t.Errorf("%d fetches, %d wrong answers", n, wrong.Load())
	}
}

// TestNobodyWaits: when the last caller has left, the fetch is canceled, and who comes
// then begins another.
func TestNobodyWaits(t *testing.T) {
	c, _ := newCache(t, cache.Options{})
	r := c.Route("/a.B/C", &full)
	g := newGate("x")
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, _, err := r.Do(ctx, key(r, "k"), nil, false, g.fetch)
		done <- err
	}()
	fetching := <-g.began
	leave()
	<-done
	<-fetching.Done()
	if e, s, err := r.Do(t.Context(), key(r, "k"), nil, false, body("new")); err != nil || s != cache.Miss || string(e.Body) != "new" {
		t.Errorf("%v %v %v", e, s, err)
	}
	eventually(t, "it ends", func() bool { return c.Stats().Fetches == 0 })
}

// TestAnothersCredential: what the leader's credential failed by is not the others'
// failure.
func TestAnothersCredential(t *testing.T) {
	c, _ := newCache(t, cache.Options{})
	r := c.Route("/a.B/C", &full)
	for code, want := range map[codes.Code]string{codes.Unauthenticated: "own", codes.PermissionDenied: "own", codes.Unavailable: ""} {
		g := newGate("")
		g.err = status.Error(code, "no")
		go func() { _, _, _ = r.Do(t.Context(), key(r, "k"), nil, false, g.fetch) }()
		<-g.began
		type answer struct {
			e   *cache.Entry
			err error
		}
		got := make(chan answer, 1)
		var joined atomic.Bool
		go func() {
			joined.Store(true)
			e, _, err := r.Do(t.Context(), key(r, "k"), nil, false, body("own"))
			got <- answer{e, err}
		}()
		eventually(t, "joined", joined.Load)
		time.Sleep(20 * time.Millisecond)
		close(g.through)
		a := <-got
		if want != "" && (a.err != nil || string(a.e.Body) != want) || want == "" && a.err != nil && status.Code(a.err) != code {
			t.Errorf("%v: %v %v", code, a.e, a.err)
		}
		eventually(t, "it ends", func() bool { return c.Stats().Fetches == 0 })
		c.Purge()
	}
}

// TestInvalidatedOnTheWay: a fetch that began before an invalidation is given to those
// who waited then, is not kept, and nobody joins it afterwards.
func TestInvalidatedOnTheWay(t *testing.T) {
	for name, test := range map[string]struct {
		open       bool
		invalidate func(*cache.Cache)
		kept       bool
	}{
		"its tag":                    {false, func(c *cache.Cache) { c.Invalidate("x", "t") }, false},
		"its route":                  {false, func(c *cache.Cache) { c.InvalidateRoute("/a.B/C") }, false},
		"everything":                 {false, func(c *cache.Cache) { c.Purge() }, false},
		"another tag":                {false, func(c *cache.Cache) { c.Invalidate("u") }, true},
		"a tag that it may yet have": {true, func(c *cache.Cache) { c.Invalidate("u") }, true},
		"many": {false, func(c *cache.Cache) {
			for i := range 5000 {
				c.Invalidate(fmt.Sprint("u", i))
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newCache(t, cache.Options{})
			r := c.Route("/a.B/C", &full)
			g := newGate("old")
			done := make(chan *cache.Entry, 1)
			go func() {
				e, _, _ := r.Do(t.Context(), key(r, "k"), []string{"t"}, test.open, func(ctx context.Context) (*cache.Entry, error) {
					e, err := g.fetch(ctx)
					if e != nil {
						e.Tags = []string{"t"}
					}
					return e, err
				})
				done <- e
			}()
			<-g.began
			test.invalidate(c)
			if !test.kept || test.open {
				e, s, err := r.Do(t.Context(), key(r, "k"), []string{"t"}, test.open, body("new", "t"))
				if err != nil || s != cache.Miss || string(e.Body) != "new" {
					t.Fatalf("joined: %v %v %v", e, s, err)
				}
				c.Purge()
			}
			close(g.through)
			if e := <-done; string(e.Body) != "old" || e.Kept() != (test.kept && !test.open) {
				t.Errorf("%q, kept %v", e.Body, e.Kept())
			}
			want := cache.Miss
			if test.kept && !test.open {
				want = cache.Hit
			}
			if _, s, _ := r.Do(t.Context(), key(r, "k"), []string{"t"}, test.open, body("new", "t")); s != want {
				t.Errorf("then %v, want %v", s, want)
			}
		})
	}
}

// TestBounds: bytes are bounded whatever comes, renderings included, and the index of
// tags does not outgrow what is kept.
func TestBounds(t *testing.T) {
	const most = 64 << 10
	reg := prometheus.NewRegistry()
	c, k := newCache(t, cache.Options{MaxBytes: most, MaxEntryBytes: 8 << 10, Metrics: reg})
	r := c.Route("/a.B/C", &full)
	for i := range 2000 {
		e, _, err := r.Do(t.Context(), key(r, fmt.Sprint(i)), nil, false, body(strings.Repeat("x", i%4000), "t", fmt.Sprint("t", i)))
		if err != nil {
			t.Fatal(err)
		}
		for j := range 20 {
			e.AddForm(cache.FormKey{Route: "r", Fields: fmt.Sprint(j)}, j, 300)
		}
	}
	eventually(t, "bounded", func() bool { s := c.Stats(); return s.Bytes <= most && s.Tags <= s.Entries+2 })
	if s := c.Stats(); s.Entries == 0 {
		t.Errorf("%+v", s)
	}
	c.Invalidate("t")
	if s := c.Stats(); s.Entries != 0 || s.Bytes != 0 || s.Tags != 0 {
		t.Errorf("after the invalidation: %+v", s)
	}
	e, _, _ := r.Do(t.Context(), key(r, "old"), nil, false, body("1", "old"))
	if !e.Kept() {
		t.Fatal("not kept")
	}
	k.advance(time.Hour)
	eventually(t, "what is too old goes", func() bool {
		_, _, _ = r.Do(t.Context(), key(r, "new"), nil, false, body("1"))
		return c.Invalidate("old") == 0
	})
	text := metricsText(t, reg)
	for _, want := range []string{"sluice_cache_requests_total a.B/C miss", "sluice_cache_evictions_total size", "sluice_cache_invalidations_total tag", "sluice_cache_bytes", "sluice_cache_entries"} {
		if !strings.Contains(text, want) {
			t.Errorf("no metric %s in\n%s", want, text)
		}
	}
}

func metricsText(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		for _, m := range f.GetMetric() {
			b.WriteString(f.GetName())
			for _, l := range m.GetLabel() {
				b.WriteString(" " + l.GetValue())
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// TestForms: renderings stand beside the answer, replace those of the same name, and
// are bounded.
func TestForms(t *testing.T) {
	c, _ := newCache(t, cache.Options{MaxEntryBytes: 4096})
	r := c.Route("/a.B/C", &full)
	e, _, _ := r.Do(t.Context(), key(r, "k"), nil, false, body("1"))
	before := c.Stats().Bytes
	e.AddForm(cache.FormKey{Route: "r"}, "one", 1000)
	if got := c.Stats().Bytes; got < before+1000 {
		t.Errorf("%d bytes after %d", got, before)
	}
	e.AddForm(cache.FormKey{Route: "r"}, "two", 500)
	e.AddForm(cache.FormKey{Route: "r", Fields: "large"}, "large", 8000)
	if got := c.Stats().Bytes; got < before+500 || got >= before+1000 {
		t.Errorf("%d bytes after %d", got, before)
	}
	if e.Form(cache.FormKey{Route: "r"}) != "two" || e.Form(cache.FormKey{Route: "r", Fields: "large"}) != nil || e.Form(cache.FormKey{Route: "s"}) != nil {
		t.Error("other renderings")
	}
	c.Purge() // What is no longer kept takes none, and does not come back by one.
	e.AddForm(cache.FormKey{Route: "r"}, "three", 100)
	if s := c.Stats(); s.Entries != 0 || s.Bytes != 0 {
		t.Errorf("%+v", s)
	}
}

// TestETags: equal answers have equal tags, others do not, and neither do parts.
func TestETags(t *testing.T) {
	c, _ := newCache(t, cache.Options{})
	r := c.Route("/a.B/C", &full)
	tags := map[string]string{}
	for i, text := range []string{"a", "b", "a"} {
		e, _, _ := r.Do(t.Context(), key(r, fmt.Sprint(i)), nil, false, body(text))
		tag := e.ETag()[0]
		if have, ok := tags[text]; ok && have != tag {
			t.Errorf("%s and %s for %q", have, tag, text)
		}
		tags[text] = tag
		for _, fields := range []string{"x", "y"} {
			tags[text+fields] = e.ETagOf(fields)
		}
	}
	seen := map[string]bool{}
	for text, tag := range tags {
		if seen[tag] || !strings.HasPrefix(tag, `W/"`) || len(tag) != 26 {
			t.Errorf("%q: %s", text, tag)
		}
		seen[tag] = true
	}
}

// TestBadOptions: what cannot be says so.
func TestBadOptions(t *testing.T) {
	for _, o := range []cache.Options{{MaxBytes: -1}, {MaxEntryBytes: 2 << 30}, {MaxBytes: 10, MaxEntryBytes: 11}, {MaxRefreshes: -1}} {
		if _, err := cache.New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

// TestRefreshesAreBounded: beyond the bound, a stale answer is given and nothing begun.
func TestRefreshesAreBounded(t *testing.T) {
	c, k := newCache(t, cache.Options{MaxRefreshes: 1})
	r := c.Route("/a.B/C", &full)
	for _, name := range []string{"1", "2"} {
		_, _, _ = r.Do(t.Context(), key(r, name), nil, false, body(name))
	}
	k.advance(11 * time.Second)
	g := newGate("x")
	for i, want := range []cache.Status{cache.Revalidate, cache.Stale, cache.Stale} {
		name := []string{"1", "1", "2"}[i]
		if e, s, err := r.Do(t.Context(), key(r, name), nil, false, g.fetch); err != nil || s != want || string(e.Body) != name {
			t.Errorf("%d: %v %v %v", i, e, s, err)
		}
	}
	close(g.through)
	eventually(t, "it ends", func() bool { return c.Stats().Fetches == 0 })
}

// TestRace is for the race detector: everything at once, and nobody is given another's.
func TestRace(t *testing.T) {
	c, err := cache.New(cache.Options{MaxBytes: 32 << 10, MaxEntryBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	rule := policy.Cache{Public: true, TTL: time.Millisecond, StaleWhileRevalidate: 5 * time.Millisecond, StaleIfError: time.Second}
	r := c.Route("/a.B/C", &rule)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				name := fmt.Sprint((g + i) % 17)
				ctx, cancel := context.WithCancel(t.Context())
				if i%7 == 0 {
					cancel()
				}
				e, _, err := r.Do(ctx, key(r, name), []string{name}, i%2 == 0, func(context.Context) (*cache.Entry, error) {
					if i%11 == 0 {
						return nil, status.Error(codes.Unavailable, "")
					}
					return &cache.Entry{Body: bytes.Repeat([]byte(name), 50), Tags: []string{name}}, nil
				})
				cancel()
				if err == nil {
					if string(e.Body) != strings.Repeat(name, 50) {
						t.Errorf("%q for %s", e.Body, name)
					}
					e.AddForm(cache.FormKey{Route: name}, name, 10)
					_ = e.Form(cache.FormKey{Route: name})
				}
				switch i % 50 {
				case 3:
					c.Invalidate(name)
				case 4:
					c.Purge()
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "all fetches end", func() bool { return c.Stats().Fetches == 0 })
	c.Purge()
	if s := c.Stats(); s.Tags != 0 || s.Entries != 0 {
		t.Errorf("%+v", s)
	}
}
