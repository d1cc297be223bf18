package wire_test

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/wire"
)

func echo(id string) *testv1.EchoRequest {
	return &testv1.EchoRequest{Id: id, Kinds: &testv1.Kinds{RString: []string{"a", "b"}, MString: map[string]string{"k": "v"}}}
}

func bytesOf(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// as reads what a copy wrote, whichever it is.
func as(t *testing.T, v any) *testv1.EchoRequest {
	t.Helper()
	out := &testv1.EchoRequest{}
	var b []byte
	switch v := v.(type) {
	case *wire.Frame:
		b = v.Data
	case proto.Message:
		b = bytesOf(t, v)
	}
	if err := proto.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCopy: every pair of forms gives the same message, replacing what was
// there, and shares nothing with the other side.
func TestCopy(t *testing.T) {
	want := echo("new")
	for name, tc := range map[string]struct{ in, out any }{
		"typed to bytes":   {echo("new"), &wire.Frame{Data: []byte("old")}},
		"bytes to typed":   {&wire.Frame{Data: bytesOf(t, want)}, echo("old")},
		"bytes to bytes":   {&wire.Frame{Data: bytesOf(t, want)}, &wire.Frame{Data: []byte("old")}},
		"bytes to dynamic": {&wire.Frame{Data: bytesOf(t, want)}, dynamicpb.NewMessage(want.ProtoReflect().Descriptor())},
		"bytes to other":   {&wire.Frame{Data: bytesOf(t, want)}, &emptypb.Empty{}}, // Unknown fields there, and none lost.
	} {
		t.Run(name, func(t *testing.T) {
			if err := (wire.Cloner{}).Copy(tc.out, tc.in); err != nil {
				t.Fatal(err)
			}
			if got := as(t, tc.out); !proto.Equal(got, want) {
				t.Errorf("got %v", got)
			}
			if in, ok := tc.in.(*testv1.EchoRequest); ok && in != nil {
				in.Id, in.Kinds.RString[0] = "changed", "changed"
				if got := as(t, tc.out); !proto.Equal(got, want) {
					t.Errorf("shared with the other side: %v", got)
				}
			}
		})
	}
}

// TestEncode: a message is written into the room where it fits and nowhere else, and equal
// messages are equal bytes.
func TestEncode(t *testing.T) {
	many := &testv1.EchoRequest{Kinds: &testv1.Kinds{MString: map[string]string{"a": "1", "b": "2", "c": "3", "d": "4", "e": "5"}}}
	for name, m := range map[string]*testv1.EchoRequest{"empty": {}, "small": {Id: "ada"}, "a map": many, "large": {Id: string(make([]byte, 5000))}} {
		var room [40]byte
		for range 10 {
			var f, again wire.Frame
			if err := errors.Join(f.Encode(m, room[:]), again.Encode(m, nil)); err != nil {
				t.Fatal(name, err)
			}
			if string(f.Data) != string(bytesOf(t, m)) || string(again.Data) != string(f.Data) || f.Data == nil || again.Data == nil {
				t.Errorf("%s: %x, %x", name, f.Data, again.Data)
			}
			if in := cap(f.Data) == len(room); in != (len(f.Data) <= len(room)) {
				t.Errorf("%s: %d bytes, in the room: %v", name, len(f.Data), in)
			}
			f.Free()
			again.Free()
		}
	}
	if (&wire.Frame{}).Encode(&testv1.EchoRequest{Id: "\xff"}, make([]byte, 40)) == nil {
		t.Error("text that is none was written")
	}
}

func TestClone(t *testing.T) {
	for name, in := range map[string]any{"typed": echo("a"), "bytes": &wire.Frame{Data: bytesOf(t, echo("a"))}} {
		out, err := wire.Cloner{}.Clone(in)
		if err != nil {
			t.Fatal(err)
		}
		switch in := in.(type) {
		case *testv1.EchoRequest:
			in.Kinds.RString[0] = "changed"
		case *wire.Frame:
			clear(in.Data)
		}
		if got := as(t, out); !proto.Equal(got, echo("a")) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestWhatCannotBeCopied(t *testing.T) {
	for name, err := range map[string]error{
		"into nothing of ours":   (wire.Cloner{}).Copy(new(int), echo("a")),
		"from nothing of ours":   (wire.Cloner{}).Copy(&wire.Frame{}, 7),
		"to typed, from nothing": (wire.Cloner{}).Copy(echo("a"), 7),
		"to typed, from typed":   (wire.Cloner{}).Copy(echo("a"), echo("b")),
		"no message": func() error {
			_, err := wire.Cloner{}.Clone(7)
			return err
		}(),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// As a connection over TCP says it.
	err := wire.Cloner{}.Copy(echo("a"), &wire.Frame{Data: []byte{0xff}})
	if st := status.Convert(err); st.Code() != codes.Internal || st.Message()[:50] != "grpc: failed to unmarshal the received message: pr" {
		t.Errorf("got %v", err)
	}
}

func TestCodec(t *testing.T) {
	c := wire.Codec{}
	if c.Name() != "proto" {
		t.Errorf("name %q", c.Name())
	}
	want := bytesOf(t, echo("a"))
	for name, v := range map[string]any{"typed": echo("a"), "bytes": &wire.Frame{Data: want}} {
		out, err := c.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if got := out.Materialize(); !bytes.Equal(got, want) && !proto.Equal(as(t, &wire.Frame{Data: got}), echo("a")) {
			t.Errorf("%s: % x", name, got)
		}
	}
	// What came in several pieces is copied: a frame is one.
	parts := mem.BufferSlice{mem.SliceBuffer(bytes.Clone(want[:3])), mem.SliceBuffer(bytes.Clone(want[3:]))}
	f := &wire.Frame{}
	if err := c.Unmarshal(parts, f); err != nil {
		t.Fatal(err)
	}
	clear(parts[0].ReadOnlyData())
	if !bytes.Equal(f.Data, want) {
		t.Errorf("% x", f.Data)
	}
	typed := &testv1.EchoRequest{}
	if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(want)}, typed); err != nil || !proto.Equal(typed, echo("a")) {
		t.Errorf("%v, %v", typed, err)
	}
	if _, err := c.Marshal(7); err == nil {
		t.Error("7 was marshaled")
	}
	if err := c.Unmarshal(nil, new(int)); err == nil {
		t.Error("an int was unmarshaled")
	}
}

// FuzzCloner: an in-process connection takes and refuses the bytes that one
// over TCP does, and reads the same message from them.
func FuzzCloner(f *testing.F) {
	f.Add(bytesOf(f, echo("a")))
	f.Add([]byte("\x0a\x01\xff"))
	f.Add([]byte("\xff\xff"))
	f.Add([]byte("\x12\x03\x7a\x01x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tcp, local, back := &testv1.EchoRequest{}, &testv1.EchoRequest{}, &wire.Frame{}
		tcpErr := wire.Codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, tcp)
		err := wire.Cloner{}.Copy(local, &wire.Frame{Data: data})
		if (err == nil) != (tcpErr == nil) {
			t.Fatalf("TCP: %v, in-process: %v", tcpErr, err)
		}
		if err != nil {
			return
		}
		if err := (wire.Cloner{}).Copy(back, local); err != nil {
			t.Fatal(err)
		}
		again := &testv1.EchoRequest{}
		if err := proto.Unmarshal(back.Data, again); err != nil || !bytes.Equal(bytesOf(t, again), bytesOf(t, tcp)) {
			t.Fatalf("%v became %v, %v", tcp, again, err)
		}
	})
}
