package httpedge

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

const testLimit = 1 << 16

// TestGzipBombCostsLittle: what is unpacked, and what is set aside, ends at the
// bound.
func TestGzipBombCostsLittle(t *testing.T) {
	bomb := zipped(t, make([]byte, 8<<20))
	var count atomic.Int64
	g := newGunzip(bytes.NewReader(bomb), testLimit, &count)
	data, err := fill(g, 4*int64(len(bomb)), testLimit)
	if !errors.Is(err, ErrTooLarge) || len(data) != testLimit+1 || cap(data) != testLimit+1 {
		t.Errorf("%v, %d bytes of %d set aside", err, len(data), cap(data))
	}
	if count.Load() > 8<<10 {
		t.Errorf("%d bytes were read to unpack %d", count.Load(), len(data))
	}
	g.release()
	x := &Exchange{Request: httptest.NewRequest("POST", "/", nil)}
	perRun := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			x.Request.Body, x.Request.ContentLength = io.NopCloser(bytes.NewReader(bomb)), int64(len(bomb))
			if _, err := x.ReadAll(testLimit, true); err == nil {
				b.Fatal("taken")
			}
		}
	}).AllocedBytesPerOp()
	if perRun > 3*testLimit {
		t.Errorf("a bomb costs %d bytes", perRun)
	}
}

// TestPromisedBody: a caller who announces a large body and sends none does not
// have its size set aside.
func TestPromisedBody(t *testing.T) {
	data, err := fill(strings.NewReader("{}"), 1<<20, 1<<30)
	if err != nil || string(data) != "{}" || cap(data) > firstBuffer {
		t.Errorf("%q, %v, %d bytes set aside", data, err, cap(data))
	}
	long := strings.Repeat("x", 1<<20)
	if data, err = fill(strings.NewReader(long), 0, 1<<20); err != nil || string(data) != long || cap(data) > 1<<20+1 {
		t.Errorf("%d bytes, %v, %d set aside", len(data), err, cap(data))
	}
}

// TestInteractiveGzip: a compressed stream is read as it comes, flush by flush.
func TestInteractiveGzip(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	var count atomic.Int64
	g := newGunzip(server, 1<<20, &count)
	sent := make(chan error, 1)
	w := gzip.NewWriter(client)
	go func() {
		if _, err := w.Write([]byte(`{"id":"a"}`)); err != nil {
			sent <- err
			return
		}
		sent <- w.Flush()
	}()
	dec := json.NewDecoder(g)
	var v testv1.EchoRequest
	if err := dec.Decode(&v); err != nil || v.GetId() != "a" {
		t.Errorf("%v, %v", v.GetId(), err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// FuzzGunzip: what the edge unpacks is what compress/gzip unpacks from one
// member, or it is refused; never more than the bound, nor read beyond it.
func FuzzGunzip(f *testing.F) {
	good := zipped(f, []byte(`{"id":"a"}`))
	for _, seed := range [][]byte{nil, good, slices.Concat(good, good), good[:12], zipped(f, make([]byte, 5000)), append(slices.Clone(good), 0), []byte("\x1f\x8b\x08\x1f")} {
		f.Add(seed)
	}
	const limit = 1000
	f.Fuzz(func(t *testing.T, body []byte) {
		x := &Exchange{Request: httptest.NewRequest("POST", "/", bytes.NewReader(body))}
		got, err := x.ReadAll(limit, true)
		if len(got) > limit || cap(got) > limit+1 || x.bytesIn.Load() > limit+1 {
			t.Fatalf("%d bytes, %d set aside, %d read", len(got), cap(got), x.bytesIn.Load())
		}
		if len(body) == 0 {
			return
		}
		src := bytes.NewReader(body)
		zr, zerr := gzip.NewReader(src)
		var want []byte
		if zerr == nil {
			zr.Multistream(false)
			want, zerr = io.ReadAll(io.LimitReader(zr, limit+1))
		}
		good := zerr == nil && src.Len() == 0 && len(want) <= limit && len(body) <= limit
		if good != (err == nil) || (good && !bytes.Equal(got, want)) {
			t.Fatalf("got %q, %v; want %q, %v", got, err, want, zerr)
		}
	})
}

func BenchmarkGzipBody(b *testing.B) {
	body := zipped(b, []byte(`{"lines":[`+strings.Repeat(`{"sku":"tea-1","title":"Tea","quantity":2},`, 10)+`{}]}`))
	x := &Exchange{Request: httptest.NewRequest("POST", "/", http.NoBody)}
	b.ReportAllocs()
	for b.Loop() {
		x.Request.Body, x.Request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		if _, err := x.ReadAll(testLimit, true); err != nil {
			b.Fatal(err)
		}
	}
}

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
