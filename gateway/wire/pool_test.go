package wire_test

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"testing"

	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/wire"
)

// poison is a pool that spoils what is given back, and counts what is not: who
// reads freed memory reads that.
type poison struct {
	mu  sync.Mutex
	out map[*byte]bool
}

const spoilt = 0xee

func (p *poison) Get(n int) *[]byte {
	b := make([]byte, n, n+1) // Never nothing: the first byte is its name.
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out[&b[:1][0]] = true
	return &b
}

func (p *poison) Put(b *[]byte) {
	all := (*b)[:cap(*b)]
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.out[&all[0]] {
		panic("given back twice, or not the pool's")
	}
	delete(p.out, &all[0])
	for i := range all {
		all[i] = spoilt
	}
}

func (p *poison) lent() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.out)
}

var pool = &poison{out: map[*byte]bool{}}

func TestMain(m *testing.M) {
	experimental.SetDefaultBufferPool(pool)
	os.Exit(m.Run())
}

// pooled is a buffer of the pool, as grpc-go reads one from a connection.
func pooled(b []byte) mem.Buffer {
	own := pool.Get(len(b))
	copy(*own, b)
	return mem.NewBuffer(own, pool)
}

// received is a frame as the codec makes it of as many buffers.
func received(t testing.TB, b []byte, pieces int) *wire.Frame {
	t.Helper()
	var data mem.BufferSlice
	for i := range pieces {
		data = append(data, pooled(b[len(b)*i/pieces:len(b)*(i+1)/pieces]))
	}
	f := &wire.Frame{}
	if err := (wire.Codec{}).Unmarshal(data, f); err != nil {
		t.Fatal(err)
	}
	data.Free() // As grpc-go does after every message.
	return f
}

var sizes = []int{0, 1, 1 << 10, 1<<10 + 1, 5000, 60000}

// TestFrameMemory: whatever is done with a received frame, its bytes are right
// until the last reader is done, and its memory goes back once, then.
func TestFrameMemory(t *testing.T) {
	for name, use := range map[string]func(*testing.T, *wire.Frame, []byte){
		"read and freed twice": func(t *testing.T, f *wire.Frame, want []byte) {
			check(t, f.Data, want)
			f.Free()
			f.Free()
			if f.Data != nil {
				t.Error("bytes stayed")
			}
		},
		"sent, freed, written": func(t *testing.T, f *wire.Frame, want []byte) {
			out := sent(t, f)
			f.Free()
			check(t, out.Materialize(), want)
			out.Free()
		},
		"sent twice": func(t *testing.T, f *wire.Frame, want []byte) {
			one, two := sent(t, f), sent(t, f)
			one.Free()
			check(t, two.Materialize(), want)
			two.Free()
			check(t, f.Data, want)
			f.Free()
		},
		"handed over": func(t *testing.T, f *wire.Frame, want []byte) {
			f.HandOver()
			out := sent(t, f)
			check(t, out.Materialize(), want)
			out.Free()
			f.Free()
		},
		"handed over, but not sent": func(t *testing.T, f *wire.Frame, want []byte) {
			f.HandOver()
			check(t, f.Data, want)
			f.Free()
		},
		"other bytes put in its place": func(t *testing.T, f *wire.Frame, _ []byte) {
			f.Data = []byte("other")
			out := sent(t, f)
			f.Free()
			check(t, out.Materialize(), []byte("other"))
			out.Free()
		},
		"cloned and freed": func(t *testing.T, f *wire.Frame, want []byte) {
			clone, err := wire.Cloner{}.Clone(f)
			if err != nil {
				t.Fatal(err)
			}
			f.Free()
			check(t, clone.(*wire.Frame).Data, want)
			clone.(*wire.Frame).Free()
		},
		"copied and freed": func(t *testing.T, f *wire.Frame, want []byte) {
			out := &wire.Frame{Data: []byte("old")}
			if err := (wire.Cloner{}).Copy(out, f); err != nil {
				t.Fatal(err)
			}
			f.Free()
			check(t, out.Data, want)
			out.Free()
		},
	} {
		for _, n := range sizes {
			for _, pieces := range []int{1, 4} {
				t.Run(fmt.Sprint(name, "/", n, "/", pieces), func(t *testing.T) {
					before, want := pool.lent(), bytes.Repeat([]byte("sluice"), n/6+1)[:n]
					use(t, received(t, want, pieces), want)
					// Of a size below grpc-go's bound, memory is never given back.
					if after := pool.lent(); n/pieces > 1<<10 && after != before {
						t.Errorf("%d buffers were not given back", after-before)
					}
				})
			}
		}
	}
	(*wire.Frame)(nil).Free()
}

func check(t *testing.T, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %.20q, not %d, %.20q", len(got), got, len(want), want)
	}
}

func sent(t *testing.T, f *wire.Frame) mem.BufferSlice {
	t.Helper()
	out, err := wire.Codec{}.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestGoneFrame: bytes that were given back are never sent as an empty message.
func TestGoneFrame(t *testing.T) {
	want := bytes.Repeat([]byte("x"), 5000)
	freed, over := received(t, want, 1), received(t, want, 1)
	freed.Free()
	over.HandOver()
	sent(t, over).Free()
	for name, f := range map[string]*wire.Frame{"freed": freed, "handed over": over} {
		if out, err := (wire.Codec{}).Marshal(f); err == nil {
			t.Errorf("%s: sent as %q", name, out.Materialize())
		}
		if err := (wire.Cloner{}).Copy(&wire.Frame{}, f); err == nil {
			t.Errorf("%s: copied", name)
		}
		if err := (wire.Cloner{}).Copy(&testv1.EchoRequest{}, f); err == nil {
			t.Errorf("%s: parsed", name)
		}
		// It may be used for another message.
		if err := (wire.Cloner{}).Copy(f, echo("again")); err != nil || as(t, f).GetId() != "again" {
			t.Errorf("%s: %v, %v", name, as(t, f), err)
		}
	}
	if out, err := (wire.Codec{}).Marshal(&wire.Frame{}); err != nil || out.Len() != 0 {
		t.Errorf("an empty message: %v, %v", out, err)
	}
}

// TestMarshalledHere: an answer of a service in this process comes from the pool,
// and shares nothing with the message.
func TestMarshalledHere(t *testing.T) {
	for _, n := range sizes {
		before, out := pool.lent(), &wire.Frame{}
		in := &testv1.EchoRequest{Id: string(bytes.Repeat([]byte("x"), n))}
		if err := (wire.Cloner{}).Copy(out, in); err != nil {
			t.Fatal(err)
		}
		if got := as(t, out); !proto.Equal(got, in) {
			t.Errorf("%d bytes: %.30v", n, got)
		}
		if n > 1<<10 && pool.lent() != before+1 {
			t.Errorf("%d bytes: not from the pool", n)
		}
		out.Free()
		if got := pool.lent(); got != before {
			t.Errorf("%d bytes: %d buffers were not given back", n, got-before)
		}
	}
	if err := (wire.Cloner{}).Copy(&wire.Frame{}, &testv1.EchoRequest{Id: "\xff" + string(make([]byte, 5000))}); err == nil {
		t.Error("text that is not UTF-8 was written")
	}
}
