package transcode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// subjects are the messages that plans are held against protojson with.
var subjects = []proto.Message{
	&testv1.Kinds{}, &testv1.Legacy{}, &testv1.Edition{}, &testv1.EchoResponse{},
	&structpb.Value{}, &anypb.Any{}, &orderv1.ListOrdersResponse{},
}

var testSet = New(Options{Types: protoregistry.GlobalTypes})

func planOf(t testing.TB, m proto.Message) *Plan {
	t.Helper()
	p, err := testSet.Plan(m.ProtoReflect().Descriptor())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// reference is what protojson makes of the wire bytes.
func reference(m proto.Message, wire []byte) ([]byte, error) {
	msg := m.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(wire, msg); err != nil {
		return nil, err
	}
	return protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(msg)
}

// decoded is JSON as values, with numbers as they are written. Names twice in an
// object are an error: a decoder would not see the first.
func decoded(b []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	v, err := decodeValue(dec)
	if err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, errors.New("more behind the value")
	}
	return v, nil
}

func decodeValue(dec *json.Decoder) (any, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok {
	case json.Delim('{'):
		object := map[string]any{}
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return nil, err
			}
			if _, twice := object[name.(string)]; twice {
				return nil, fmt.Errorf("%q twice", name)
			}
			if object[name.(string)], err = decodeValue(dec); err != nil {
				return nil, err
			}
		}
		_, err = dec.Token()
		return object, err
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := decodeValue(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = dec.Token()
		return list, err
	}
	return tok, nil
}

// sameAsProtojson fails unless both refuse the bytes or both make the same of them.
func sameAsProtojson(t *testing.T, m proto.Message, wire []byte) {
	t.Helper()
	p := planOf(t, m)
	want, wantErr := reference(m, wire)
	prefix := []byte("before")
	out, err := p.AppendJSON(prefix, bytes.Clone(wire))
	if !bytes.HasPrefix(out, prefix) || err != nil && len(out) != len(prefix) {
		t.Fatalf("dst is now %q, error %v", out, err)
	}
	got := out[len(prefix):]
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%T %x: %v, protojson says %v\n%s\n%s", m, wire, err, wantErr, got, want)
	}
	checkErr := p.Check(wire)
	if e := proto.Unmarshal(wire, m.ProtoReflect().New().Interface()); (e == nil) != (checkErr == nil) {
		t.Fatalf("%T %x: Check says %v, Unmarshal %v", m, wire, checkErr, e)
	}
	if err != nil {
		return
	}
	if !sameValues(t, got, want) {
		t.Fatalf("%T %x:\n got %s\nwant %s", m, wire, got, want)
	}
	// The careful pass must say the same as the streaming one.
	s := state{set: p.set, wire: wire, careful: true}
	careful, err := s.document(nil, p.root)
	s.release()
	if err != nil || !sameValues(t, careful, want) {
		t.Fatalf("%T %x:\n     want %s\ncarefully %s, %v", m, wire, want, careful, err)
	}
}

// sameValues compares JSON by what it says; both must be JSON.
func sameValues(t *testing.T, a, b []byte) bool {
	t.Helper()
	x, err := decoded(a)
	if err != nil {
		t.Fatalf("%v in %s", err, a)
	}
	y, err := decoded(b)
	if err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return reflect.DeepEqual(x, y)
}
