package transcode

import (
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// TestFieldBesideJSONPb: response_body as grpc-gateway's marshaler writes it, and
// where a plan follows protojson instead: JSONPb hands what is no message to
// encoding/json, which knows nothing of 64-bit integers, and makes null of what is
// empty, though the API document says that a list is a list.
func TestFieldBesideJSONPb(t *testing.T) {
	pb := &runtime.JSONPb{MarshalOptions: protojson.MarshalOptions{EmitDefaultValues: true}}
	empty, k := &testv1.Kinds{}, full(t)
	for _, c := range []struct {
		field  protoreflect.Name
		m      *testv1.Kinds
		getter any
		jsonpb string // where it differs
	}{
		{"f_string", empty, empty.GetFString(), ""},
		{"f_int32", empty, empty.GetFInt32(), ""},
		{"f_bool", k, k.GetFBool(), ""},
		{"f_enum", k, k.GetFEnum(), ""},
		{"f_message", empty, empty.GetFMessage(), ""},
		{"w_timestamp", k, k.GetWTimestamp(), ""},
		{"r_message", k, k.GetRMessage(), ""},
		{"r_int32", k, k.GetRInt32(), ""},
		{"r_string", &testv1.Kinds{RString: []string{"a"}}, []string{"a"}, ""},
		{"m_string", empty, empty.GetMString(), ""},
		{"m_int64", k, k.GetMInt64(), ""},
		{"f_bytes", k, k.GetFBytes(), ""},
		{"c_string", &testv1.Kinds{Choice: &testv1.Kinds_CString{CString: "s"}}, "s", ""},

		{"w_any", empty, empty.GetWAny(), ""},
		{"w_duration", empty, empty.GetWDuration(), ""},
		{"c_message", empty, empty.GetCMessage(), ""},
		{"o_int32", empty, empty.OInt32, ""},

		{"r_string", empty, empty.GetRString(), "null"},
		{"r_message", empty, empty.GetRMessage(), "null"},
		{"f_bytes", empty, empty.GetFBytes(), "null"},
		{"f_int64", k, k.GetFInt64(), "-9223372036854775808"},
		{"r_int64", k, k.GetRInt64(), "[0,1,-1]"},
	} {
		p, err := planOf(t, c.m).Field(c.field)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.AppendJSON(nil, must(t, c.m))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := pb.Marshal(c.getter)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s / %s", c.field, got, theirs)
		if c.jsonpb != "" && string(theirs) != c.jsonpb {
			t.Errorf("%s: JSONPb now writes %s", c.field, theirs)
		}
		if same := sameValues(t, got, theirs); same != (c.jsonpb == "") {
			t.Errorf("%s: %s, JSONPb writes %s", c.field, got, theirs)
		}
	}
}
