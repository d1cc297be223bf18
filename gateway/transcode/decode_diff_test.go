package transcode_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/gateway/transcode"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// decoded are the messages whose JSON is read both by AppendWire and by protojson.
var decoded = []proto.Message{
	&testv1.Kinds{}, &testv1.Legacy{}, &testv1.Edition{}, &orderv1.CreateOrderRequest{},
	&structpb.Value{}, &structpb.Struct{}, &structpb.ListValue{}, &anypb.Any{},
	&timestamppb.Timestamp{}, &durationpb.Duration{}, &fieldmaskpb.FieldMask{}, &emptypb.Empty{},
	&wrapperspb.Int32Value{}, &wrapperspb.UInt64Value{}, &wrapperspb.FloatValue{}, &wrapperspb.DoubleValue{},
	&wrapperspb.StringValue{}, &wrapperspb.BytesValue{}, &wrapperspb.BoolValue{},
}

// testDepth bounds the nesting in these tests: low, so that they get there.
const testDepth = 8

// decodePlans are the plans of the messages in decoded.
func decodePlans(tb testing.TB) []*transcode.Plan {
	tb.Helper()
	set := transcode.New(transcode.Options{Types: protoregistry.GlobalTypes, MaxDepth: testDepth})
	plans := make([]*transcode.Plan, len(decoded))
	for i, m := range decoded {
		plans[i] = planOf(tb, set, m)
	}
	return plans
}

func planOf(tb testing.TB, set *transcode.Set, m proto.Message) *transcode.Plan {
	tb.Helper()
	p, err := set.Plan(m.ProtoReflect().Descriptor())
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// sameDecoding fails unless AppendWire and protojson agree on a document: both
// refuse it, or both read the same message. It says whether they take it.
func sameDecoding(tb testing.TB, p *transcode.Plan, like proto.Message, data []byte) bool {
	tb.Helper()
	want := like.ProtoReflect().New().Interface()
	wantErr := protojson.UnmarshalOptions{RecursionLimit: testDepth}.Unmarshal(data, want)
	if wantErr == nil && !json.Valid(data) {
		wantErr = errors.New("not JSON: an exponent without digits, which protojson takes")
	}
	prefix := []byte("before")
	wire, err := p.AppendWire(prefix, data)
	sameErrors(tb, p, data)
	if err != nil {
		checkError(tb, err, data)
		if string(wire) != "before" {
			tb.Errorf("%s: refused, and dst is %q", data, wire)
		}
	}
	if (err == nil) != (wantErr == nil) {
		tb.Fatalf("%T %s:\nAppendWire: %v\nprotojson:  %v", like, data, err, wantErr)
	}
	if err != nil {
		return false
	}
	wire, ok := bytes.CutPrefix(wire, prefix)
	if !ok {
		tb.Fatalf("%s: what was in dst is gone: %q", data, wire)
	}
	got := like.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(wire, got); err != nil {
		tb.Fatalf("%T %s: the wire form %x: %v", like, data, wire, err)
	}
	if size := proto.Size(got); size != len(wire) {
		tb.Errorf("%T %s: %d bytes where %d do: %x", like, data, len(wire), size, wire)
	}
	sortAnys(tb, got.ProtoReflect())
	sortAnys(tb, want.ProtoReflect())
	if !proto.Equal(got, want) {
		tb.Fatalf("%T %s:\nAppendWire: %v\nprotojson:  %v", like, data, got, want)
	}
	return true
}

// checkError fails unless an error of AppendWire is one that a client can use.
func checkError(tb testing.TB, err error, data []byte) {
	tb.Helper()
	var bad *transcode.Error
	if !errors.As(err, &bad) {
		tb.Fatalf("%s: %T is no *Error: %v", data, err, err)
	}
	if bad.Reason == "" || bad.Offset < 0 || bad.Offset > len(data) {
		tb.Fatalf("%q: %+v", data, bad)
	}
	line := 1 + bytes.Count(data[:bad.Offset], []byte("\n"))
	column := bad.Offset - bytes.LastIndexByte(data[:bad.Offset], '\n')
	if bad.Line != line || bad.Column != column {
		tb.Fatalf("%q: %+v is at %d:%d", data, bad, line, column)
	}
	if len(bad.Field) > 2000 || len(bad.Reason) > 2000 {
		tb.Fatalf("%q: an error of %d and %d bytes", data, len(bad.Field), len(bad.Reason))
	}
}

// sortAnys gives what Anys hold one order of fields: AppendWire keeps that of the
// document, protojson sorts.
func sortAnys(tb testing.TB, m protoreflect.Message) {
	tb.Helper()
	if a, ok := m.Interface().(*anypb.Any); ok {
		if a.TypeUrl == "" {
			return
		}
		held, err := anypb.UnmarshalNew(a, proto.UnmarshalOptions{AllowPartial: true})
		if err != nil {
			tb.Fatal(err)
		}
		sortAnys(tb, held.ProtoReflect())
		if a.Value, err = (proto.MarshalOptions{AllowPartial: true, Deterministic: true}).Marshal(held); err != nil {
			tb.Fatal(err)
		}
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					sortAnys(tb, v.Message())
					return true
				})
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				sortAnys(tb, v.List().Get(i).Message())
			}
		default:
			sortAnys(tb, v.Message())
		}
		return true
	})
}
