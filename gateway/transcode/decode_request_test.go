package transcode_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/sluice-gateway/sluice/gateway/transcode"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// sameErrors fails unless all errors of a body begin with the one that AppendRequest
// stops at, and there are some only where it stops.
func sameErrors(tb testing.TB, p *transcode.Plan, data []byte) {
	tb.Helper()
	_, err := p.AppendRequest(nil, data, false)
	all := p.RequestErrors(data, false, 20)
	if (err != nil) != (len(all) > 0) || len(all) > 20 {
		tb.Fatalf("%s:\nAppendRequest: %v\nall: %v", data, err, all)
	}
	for _, e := range all {
		checkError(tb, e, data)
		if e.IsSyntax() && len(all) > 1 {
			tb.Fatalf("%s: no JSON, and yet %d errors", data, len(all))
		}
	}
	var first *transcode.Error
	if errors.As(err, &first) && !all[0].IsSyntax() && *all[0] != *first {
		tb.Fatalf("%s:\nthe first is %v\nof all       %v", data, first, all[0])
	}
}

// TestRequestErrors: all that is wrong with a body is told, each with its own path and place.
func TestRequestErrors(t *testing.T) {
	p := decodePlans(t)[0]
	for doc, want := range map[string]string{
		`{"fInt32":"x","nope":{"a":[1,{}]},"fBool":3,"fString":"fine"}`:                                                         "f_int32@1:11 nope@1:15 f_bool@1:43",
		`{"rInt32":[1,"x",2,true],"rMessage":[{},{"nope":1,"zip":2}]}`:                                                          "r_int32[1]@1:14 r_int32[3]@1:20 r_message[1].nope@1:42 r_message[1].zip@1:51",
		`{"mInt64":{"x":{},"1":{"nope":1},"1":{}},"mBool":{"true":"?"}}`:                                                        "m_int64@1:12 m_int64[1].nope@1:24 m_int64[1]@1:34 m_bool[true]@1:58",
		`{"fMessage":{"fMessage":{"fInt32":"x"},"fInt32":[]},"fInt32":"x"}`:                                                     "f_message.f_message.f_int32@1:35 f_message.f_int32@1:49 f_int32@1:62",
		`{"cString":"a","cInt64":1,"fInt32":1,"f_int32":2}`:                                                                     "c_int64@1:16 f_int32@1:38",
		`{"wAny":{"@type":"google.protobuf.Duration","value":"1m"},"wStruct":{"a":1,"a":2,"b":{"c":1,"c":2}},"wTimestamp":"x"}`: `w_any.value@1:53 w_struct["a"]@1:76 w_struct["b"]["c"]@1:93 w_timestamp@1:114`,
		"{\"fInt32\":\"x\",\n\"fBool\": ]":                                                                                      "f_bool@2:10",
		`{"fInt32":"x","nope":{"a":]}}`:                                                                                         "@1:27",
		`[]`:                                                                                                                    "@1:1",
		`[] x`:                                                                                                                  "@1:4",
		``:                                                                                                                      "@1:1",
	} {
		var got []string
		for _, e := range p.RequestErrors([]byte(doc), false, 20) {
			got = append(got, fmt.Sprintf("%s@%d:%d", e.Field, e.Line, e.Column))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s:\ngot  %s\nwant %s", doc, s, want)
		}
		sameErrors(t, p, []byte(doc))
	}
	many := []byte(`{"fMessage":{"rInt32":[` + strings.Repeat(`"x",`, 99) + `1]},"fBool":1}`)
	if got := p.RequestErrors(many, false, 5); len(got) != 5 || got[4].Field != "f_message.r_int32[4]" {
		t.Errorf("%v", got)
	}
}

// TestAppendRequest: what a body of a REST call may be, and the JSON of a whole message may not.
func TestAppendRequest(t *testing.T) {
	plans := decodePlans(t)
	old := &testv1.Legacy{Note: proto.String("x")}
	kinds := func(m *testv1.Kinds) proto.Message { return m }
	for name, tc := range map[string]struct {
		plan  int
		doc   string
		patch bool
		want  proto.Message
	}{
		"required fields may be missing": {1, `{"note":"x"}`, false, old},
		"or null":                        {1, `{"note":"x","id":null}`, false, old},
		"masks in snake_case":            {0, `{"wMask":"f_int32,fMessage.f_bool,*,r_message.*"}`, false, kinds(&testv1.Kinds{WMask: &fieldmaskpb.FieldMask{Paths: []string{"f_int32", "f_message.f_bool", "*", "r_message.*"}}})},
		"null in a PATCH":                {0, `{"wValue":null,"wAny":null,"wStruct":null,"cNull":null,"fMessage":{"wValue":null}}`, true, kinds(&testv1.Kinds{FMessage: &testv1.Kinds{}})},
	} {
		wire, err := plans[tc.plan].AppendRequest(nil, []byte(tc.doc), tc.patch)
		got := tc.want.ProtoReflect().New().Interface()
		if err == nil {
			err = proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(wire, got)
		}
		if err != nil || !proto.Equal(got, tc.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, mask := range []string{"a,", ",", "a..b", ".a", "a-b", "_a", "a*", "*a", "a.*b", "1"} {
		if _, err := plans[0].AppendRequest(nil, []byte(`{"wMask":"`+mask+`"}`), false); err == nil {
			t.Errorf("%q is taken as a mask", mask)
		}
	}
	// Elements are replaced whole: null is a value in them.
	for _, doc := range []string{`{"wList":[null]}`, `{"wStruct":{"a":null}}`, `{"wAny":{"@type":"sluice.test.v1.Kinds","wValue":null}}`} {
		patched, err1 := plans[0].AppendRequest(nil, []byte(doc), true)
		plain, err2 := plans[0].AppendRequest(nil, []byte(doc), false)
		if err1 != nil || err2 != nil || string(patched) != string(plain) {
			t.Errorf("%s: %x, %v; %x, %v", doc, patched, err1, plain, err2)
		}
	}
}

// TestJSONPaths: the mask of what a body names.
func TestJSONPaths(t *testing.T) {
	p := decodePlans(t)[0]
	for doc, want := range map[string]string{
		`{}`: "",
		`{"fInt32":1,"fBool":null,"r_string":["a"],"mString":{"a":"b"}}`:                        "f_bool f_int32 m_string r_string",
		`{"fMessage":{"fMessage":{"fInt32":1},"fBool":true},"cMessage":{},"otherName":"x"}`:     "c_message f_message.f_bool f_message.f_message.f_int32 renamed",
		`{"wAny":null,"wStruct":null,"wValue":null,"fMessage":null,"wTimestamp":null}`:          "f_message w_any w_struct w_timestamp w_value",
		`{"wAny":{"@type":"google.protobuf.Empty"},"wStruct":{"a":{"b":1}},"wValue":{"c":[1]}}`: "w_any w_struct w_value",
		`{"rMessage":[{"owner":"x"}],"mInt64":{"1":{"owner":"x"}},"wList":[1]}`:                 "m_int64 r_message w_list",
	} {
		if _, err := p.AppendRequest(nil, []byte(doc), true); err != nil {
			t.Errorf("%s: %v", doc, err)
		}
		if got := strings.Join(p.JSONPaths([]byte(doc)), " "); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", doc, got, want)
		}
	}
}
