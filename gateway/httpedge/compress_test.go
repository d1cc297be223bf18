package httpedge

import (
	"bytes"
	stdgzip "compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// orders is a list as GET /v1/users/{user_id}/orders answers it: n orders of one
// to four lines, ids and amounts by chance.
func orders(n int) []byte {
	r := rand.New(rand.NewPCG(4, 18))
	titles := []string{"Brass gear, 12 teeth", "Paper tape, 1000 ft", "Wire, 11.8 inches", "Punch cards, 100", "Rotor III", "Valve EF50", "Relay, 24 V", "Manual of a compiler"}
	var b bytes.Buffer
	b.WriteString(`{"orders":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"orderId":"%x","userId":"ada","lines":[`, r.Uint64())
		for j := range 1 + r.IntN(4) {
			if j > 0 {
				b.WriteByte(',')
			}
			title := titles[r.IntN(len(titles))]
			fmt.Fprintf(&b, `{"sku":%q,"title":%q,"quantity":%d,"price":{"currencyCode":"EUR","units":"%d","nanos":%d}}`,
				strings.ReplaceAll(strings.ToLower(title), " ", "-"), title, 1+r.IntN(5), r.IntN(200), r.IntN(100)*10_000_000)
		}
		day := func() string {
			return fmt.Sprintf("2026-02-%02dT%02d:%02d:%02dZ", 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60))
		}
		fmt.Fprintf(&b, `],"total":{"currencyCode":"EUR","units":"%d","nanos":%d},"state":"ORDER_STATE_PAID","createTime":%q,"updateTime":%q,"etag":"%x","note":""}`,
			r.IntN(999), r.IntN(100)*10_000_000, day(), day(), r.Uint64())
	}
	b.WriteString(`],"nextPageToken":""}`)
	return b.Bytes()
}

var oneUser = []byte(`{"userId":"ada","email":"ada@example.com","displayName":"Ada Lovelace","phone":"+441632960001",` +
	`"createTime":"2026-01-05T09:00:00Z","updateTime":"2026-01-05T09:00:00Z","etag":"AoCQ9IqJ6KMG"}`)

func newTestCompressor(t testing.TB, o CompressionOptions) *Compressor {
	t.Helper()
	c, err := NewCompressor(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// unpack reads an answer with libraries that did not write it, where there are
// any.
func unpack(t testing.TB, encoding string, b []byte) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	switch encoding {
	case "gzip":
		z, err := stdgzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	case "zstd":
		// RFC 9659: what the web may be sent.
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEncode(t *testing.T) {
	list := orders(20)
	noise := make([]byte, 4<<10)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	vary := []string{"Accept-Encoding"}
	for _, c := range []struct {
		name     string
		header   http.Header
		accept   string
		body     []byte
		encoding string
		vary     []string
	}{
		{"a list, gzip", http.Header{}, "gzip", list, "gzip", vary},
		{"a list, zstd", http.Header{}, "gzip, zstd", list, "zstd", vary},
		{"a caller who accepts nothing", http.Header{}, "", list, "", vary},
		{"too small", http.Header{}, "gzip", oneUser, "", vary},
		{"too small, but never identity", http.Header{}, "gzip, identity;q=0", oneUser, "gzip", vary},
		{"a byte too small", http.Header{}, "gzip", list[:defaultMinCompress-1], "", vary},
		{"just enough", http.Header{}, "gzip", list[:defaultMinCompress], "gzip", vary},
		{"does not get smaller", http.Header{}, "gzip", noise, "", vary},
		{"does not get smaller, zstd", http.Header{}, "zstd", noise, "", vary},
		{"does not get smaller, but never identity", http.Header{}, "gzip, *;q=0", noise, "gzip", vary},
		{"nothing", http.Header{}, "gzip", nil, "", nil},
		{"a problem", http.Header{"Content-Type": {ProblemType}}, "gzip", list, "gzip", vary},
		{"a picture", http.Header{"Content-Type": {"image/png"}}, "gzip", list, "", nil},
		{"a picture that is text", http.Header{"Content-Type": {"image/svg+xml"}}, "gzip", list, "gzip", vary},
		{"text", http.Header{"Content-Type": {"Text/Plain ; charset=utf-8"}}, "gzip", list, "gzip", vary},
		{"octets", http.Header{"Content-Type": {"application/octet-stream"}}, "gzip", list, "", nil},
		{"no type", http.Header{"Content-Type": nil}, "gzip", list, "", nil},
		{"an empty type", http.Header{"Content-Type": {""}}, "gzip", list, "", nil},
		{"encoded by the service", http.Header{"Content-Encoding": {"br"}}, "gzip", list, "br", nil},
		{"a part", http.Header{"Content-Range": {"bytes 0-9/10"}}, "gzip", list, "", nil},
		{"forbidden", http.Header{"Cache-Control": {"no-store, No-Transform"}}, "gzip", list, "", nil},
		{"Vary of CORS", http.Header{"Vary": {"Origin"}}, "gzip", list, "gzip", []string{"Origin", "Accept-Encoding"}},
		{"Vary there already", http.Header{"Vary": {"Accept-Encoding"}}, "gzip", list, "gzip", vary},
		{"Vary of a mask", http.Header{"Vary": VaryMask}, "gzip", list, "gzip", []string{"X-Goog-FieldMask", "Accept-Encoding"}},
		{"Vary of both", http.Header{"Vary": {"Origin", "X-Goog-FieldMask"}}, "gzip", list, "gzip", []string{"Origin", "X-Goog-FieldMask", "Accept-Encoding"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := c.header
			if _, set := h["Content-Type"]; !set {
				h["Content-Type"] = []string{"application/json"}
			}
			sent := slices.Clone(c.body)
			out := new(Packing).Compress(newTestCompressor(t, CompressionOptions{}), h, []string{c.accept}, c.body)
			if got := h.Get("Content-Encoding"); got != c.encoding {
				t.Fatalf("Content-Encoding %q, want %q", got, c.encoding)
			}
			if !slices.Equal(h["Vary"], c.vary) {
				t.Errorf("Vary %q, want %q", h["Vary"], c.vary)
			}
			if got := unpack(t, strings.TrimPrefix(c.encoding, "br"), out); !bytes.Equal(got, sent) {
				t.Errorf("%d bytes came out, of %d", len(got), len(sent))
			}
			if !bytes.Equal(c.body, sent) {
				t.Error("the body was written into")
			}
		})
	}
	if !slices.Equal(varyOrigin, []string{"Origin"}) || !slices.Equal(VaryMask, []string{"X-Goog-FieldMask"}) {
		t.Errorf("shared values were written into: %q, %q", varyOrigin, VaryMask)
	}
}

func TestEncodeSwitches(t *testing.T) {
	list := orders(20)
	for _, c := range []struct {
		o    CompressionOptions
		want string
	}{{CompressionOptions{}, "gzip"}, {CompressionOptions{Off: true}, ""}, {CompressionOptions{MinBytes: len(list) + 1}, ""}, {CompressionOptions{MinBytes: 1}, "gzip"}} {
		h := http.Header{"Content-Type": {"application/json"}}
		new(Packing).Compress(newTestCompressor(t, c.o), h, []string{"gzip"}, list)
		if h.Get("Content-Encoding") != c.want {
			t.Errorf("%+v: Content-Encoding %q", c.o, h.Get("Content-Encoding"))
		}
		if c.o.Off && h["Vary"] != nil {
			t.Errorf("%+v: Vary %q, of nothing", c.o, h["Vary"])
		}
	}
	if _, err := NewCompressor(CompressionOptions{MinBytes: -1}); err == nil {
		t.Error("a negative size was accepted")
	}
}

// A strong ETag names bytes, and these are others (RFC 9110, 8.8.3.3).
func TestEncodeWeakensETags(t *testing.T) {
	c := newTestCompressor(t, CompressionOptions{})
	for tag, want := range map[string]string{`"a"`: `W/"a"`, `W/"a"`: `W/"a"`} {
		h := http.Header{"Content-Type": {"application/json"}, "Etag": {tag}}
		new(Packing).Compress(c, h, []string{"gzip"}, orders(4))
		if got := h.Get("ETag"); got != want {
			t.Errorf("%s became %s, want %s", tag, got, want)
		}
		h = http.Header{"Content-Type": {"application/json"}, "Etag": {tag}}
		if new(Packing).Compress(c, h, nil, orders(4)); h.Get("ETag") != tag {
			t.Errorf("%s became %s, of an answer as it is", tag, h.Get("ETag"))
		}
	}
}

// Any size, over the window, too: what comes out is what went in.
func TestEncodeSizes(t *testing.T) {
	c := newTestCompressor(t, CompressionOptions{MinBytes: 1})
	all := bytes.Repeat(orders(100), 30)
	var p Packing
	for _, n := range []int{1, 2, 100, 1023, 1024, 1025, 65535, 65536, 131071, 131072, 131073, 1 << 20, len(all)} {
		for _, accept := range []string{"gzip, identity;q=0", "zstd, identity;q=0"} {
			h := http.Header{"Content-Type": {"application/json"}}
			out := p.Compress(c, h, []string{accept}, all[:n])
			if got := unpack(t, h.Get("Content-Encoding"), out); !bytes.Equal(got, all[:n]) {
				t.Errorf("%s: %d bytes came out, of %d", accept, len(got), n)
			}
		}
	}
}

// More callers than encoders get right answers, and no more encoders are made
// than there are processors.
func TestEncodersAreBounded(t *testing.T) {
	c := newTestCompressor(t, CompressionOptions{})
	var mu sync.Mutex
	made := 0
	fresh := c.gzip.fresh
	c.gzip.fresh = func() *gzipEncoder {
		mu.Lock()
		defer mu.Unlock()
		made++
		return fresh()
	}
	body := orders(20)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 20 {
				for _, accept := range []string{"gzip", "zstd"} {
					h := http.Header{"Content-Type": {"application/json"}}
					var p Packing
					if !bytes.Equal(unpack(t, accept, p.Compress(c, h, []string{accept}, body)), body) {
						t.Errorf("%s: another body came out", accept)
					}
					p.Release(nil)
				}
			}
		})
	}
	wg.Wait()
	if made == 0 || made > runtime.GOMAXPROCS(0) {
		t.Errorf("%d gzip encoders for %d processors", made, runtime.GOMAXPROCS(0))
	}
}

func BenchmarkEncode(b *testing.B) {
	c := newTestCompressor(b, CompressionOptions{})
	for name, body := range map[string][]byte{"user": oneUser, "orders_20": orders(20), "orders_100": orders(100)} {
		for _, accept := range []string{"", "gzip", "gzip, deflate, br, zstd"} {
			b.Run(name+"/accept="+accept, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(body)))
				h := http.Header{"Content-Type": {"application/json"}}
				lines := []string{accept}
				var out []byte
				for b.Loop() {
					delete(h, "Content-Encoding")
					delete(h, "Vary")
					var p Packing
					out = p.Compress(c, h, lines, body)
					p.Release(nil)
				}
				b.ReportMetric(float64(len(out)), "B-sent")
			})
		}
	}
}

// BenchmarkCodings is what docs/decisions/0018-compression.md chose from.
func BenchmarkCodings(b *testing.B) {
	for _, in := range []struct {
		name string
		body []byte
	}{{"user", oneUser}, {"orders_1", orders(1)}, {"orders_2", orders(2)}, {"orders_4", orders(4)}, {"orders_20", orders(20)}, {"orders_100", orders(100)}} {
		run := func(name string, encode func(dst []byte) []byte) {
			b.Run(in.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(in.body)))
				dst := make([]byte, 0, 2*len(in.body))
				for b.Loop() {
					dst = encode(dst[:0])
				}
				b.ReportMetric(float64(len(dst)), "B-sent")
			})
		}
		for level := 1; level <= 6; level++ {
			g := newGzip()
			g.w, _ = gzip.NewWriterLevel(&g.out, level)
			run(fmt.Sprintf("gzip-%d", level), func(dst []byte) []byte { return g.encode(dst, in.body) })
		}
		for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault} {
			z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow),
				zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
			if err != nil {
				b.Fatal(err)
			}
			run("zstd-"+level.String(), func(dst []byte) []byte { return z.EncodeAll(in.body, dst) })
		}
	}
}
