package transcode_test

import (
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-gateway/sluice/gateway/transcode"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// TestConformanceWire holds AppendJSON and protojson against the cases of the
// suite whose messages no JSON becomes.
func TestConformanceWire(t *testing.T) {
	nan, inf := structpb.NewNumberValue(math.NaN()), structpb.NewNumberValue(math.Inf(1))
	typed := func(name string, value ...byte) *anypb.Any { return &anypb.Any{TypeUrl: name, Value: value} }
	for name, c := range map[string]struct {
		message proto.Message
		want    string // "" is refused
	}{
		"timestamp before year 1":          {&timestamppb.Timestamp{Seconds: -62135596801}, ""},
		"timestamp after year 9999":        {&timestamppb.Timestamp{Seconds: 253402300800}, ""},
		"timestamp with negative nanos":    {&timestamppb.Timestamp{Nanos: -1}, ""},
		"timestamp with too many nanos":    {&timestamppb.Timestamp{Nanos: 1e9}, ""},
		"timestamp of one nano":            {&timestamppb.Timestamp{Nanos: 1}, `"1970-01-01T00:00:00.000000001Z"`},
		"duration too long":                {&durationpb.Duration{Seconds: 315576000001}, ""},
		"duration too short":               {&durationpb.Duration{Seconds: -315576000001}, ""},
		"duration of two signs":            {&durationpb.Duration{Seconds: 1, Nanos: -1}, ""},
		"duration of two signs, the other": {&durationpb.Duration{Seconds: -1, Nanos: 1}, ""},
		"duration with too many nanos":     {&durationpb.Duration{Nanos: 1e9}, ""},
		"duration of minus one nano":       {&durationpb.Duration{Nanos: -1}, `"-0.000000001s"`},
		"duration of -1.5 s":               {&durationpb.Duration{Seconds: -1, Nanos: -5e8}, `"-1.500s"`},
		"mask in lowerCamelCase":           {&fieldmaskpb.FieldMask{Paths: []string{"fooBar"}}, ""},
		"mask with two underscores":        {&fieldmaskpb.FieldMask{Paths: []string{"foo__bar"}}, ""},
		"mask with a number behind":        {&fieldmaskpb.FieldMask{Paths: []string{"foo_3_bar"}}, ""},
		"mask with a wrong character":      {&fieldmaskpb.FieldMask{Paths: []string{"foo,bar"}}, ""},
		"mask with an empty path":          {&fieldmaskpb.FieldMask{Paths: []string{""}}, ""},
		"mask of several paths":            {&fieldmaskpb.FieldMask{Paths: []string{"foo_bar", "a.b_c"}}, `"fooBar,a.bC"`},
		"value without a kind":             {&structpb.Value{}, ""},
		"value NaN":                        {nan, ""},
		"value infinite":                   {inf, ""},
		"struct of a value without a kind": {&structpb.Struct{Fields: map[string]*structpb.Value{"a": {}}}, ""},
		"list of NaN":                      {&structpb.ListValue{Values: []*structpb.Value{nan}}, ""},
		"any without a type":               {typed("", 8, 1), ""},
		"any of a type that is not known":  {typed("type.googleapis.com/sluice.test.v1.Nope"), ""},
		"any that does not parse":          {typed("type.googleapis.com/sluice.test.v1.Inner", 0xff), ""},
		"any of a timestamp beyond":        {typed("google.protobuf.Timestamp", 16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), ""},
		"any of an empty wrapper":          {typed("google.protobuf.Int64Value"), `{"@type":"google.protobuf.Int64Value","value":"0"}`},
		"empty any":                        {typed(""), `{}`},
		"wrapper of minus zero":            {wrapperspb.Double(math.Copysign(0, -1)), `-0`},
		"float at its smallest":            {wrapperspb.Float(math.SmallestNonzeroFloat32), `1e-45`},
		"double between two notations":     {wrapperspb.Double(1e-7), `1e-7`},
		"string with controls":             {wrapperspb.String("\x00\x1f\x7f\u2028<>&"), "\"\\u0000\\u001f\x7f\u2028<>&\""},
		"group, extension, default":        {legacyWith(), `{"id":"","note":"n","loose":[],"tight":[],"sizes":[],"part":{"piece":[]},"row":[],"mFit":{},"raws":[],"[sluice.test.v1.x_note]":"x"}`},
		"required field missing":           {&testv1.Legacy{}, ""},
		"required field missing in a list": {&testv1.Edition{Required: proto.String("x"), Delimiteds: []*testv1.Edition{{}}}, ""},
		"required field missing in an any": {typed("sluice.test.v1.Edition", 0x40), ""},
		"unknown field in an empty one":    {typed("google.protobuf.Empty", 8, 1), `{"@type":"google.protobuf.Empty"}`},
	} {
		t.Run(name, func(t *testing.T) {
			wire, err := proto.MarshalOptions{AllowPartial: true}.Marshal(c.message)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := planOf(t, transcode.New(transcode.Options{Types: protoregistry.GlobalTypes}), c.message).AppendJSON(nil, wire)
			if (err != nil) != (c.want == "") {
				t.Errorf("AppendJSON: %s, %v", ours, err)
			}
			theirs, theirErr := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(c.message)
			if (theirErr != nil) != (c.want == "") {
				t.Errorf("protojson: %s, %v", theirs, theirErr)
			}
			if err != nil || theirErr != nil {
				return
			}
			if want := sorted(t, []byte(c.want)); sorted(t, ours) != want || sorted(t, theirs) != want {
				t.Errorf("AppendJSON %s\nprotojson  %s\nwant       %s", ours, theirs, want)
			}
		})
	}
}

// legacyWith has a group, an extension and an empty required field.
func legacyWith() *testv1.Legacy {
	m := &testv1.Legacy{Id: proto.String(""), Note: proto.String("n"), Part: &testv1.Legacy_Part{}}
	proto.SetExtension(m, testv1.E_XNote, "x")
	return m
}
