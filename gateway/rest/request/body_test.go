package request_test

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/rest/request"
)

// docs are bodies that one kind or another takes.
var docs = []string{
	`null`, `true`, `false`, `0`, `1`, `-1`, `1.5`, `1e3`, `2147483648`, `4294967296`, `18446744073709551616`, `1e400`, `1_0`, `+5`, `""`, `"1"`, `"x"`, `"eA=="`, `"_-8"`, `"COLOR_RED"`, `"NaN"`, `"Infinity"`,
	`"2026-01-02T03:04:05Z"`, `"1.5s"`, `"1m"`, `"a,fooBar.baz"`, `"a..b"`, `{}`, `[]`, `[1,2]`, `["a","b"]`, `["COLOR_RED",7]`, `[true]`, `[null]`, `["eA=="]`, `[{}]`, `[{"owner":"a"},{"tags":["b"]}]`,
	`{"a":"b"}`, `{"1":{"owner":"x"}}`, `{"true":"COLOR_RED"}`, `{"owner":"a","tags":["b","c"]}`, `{"fInt32":5,"cString":"x"}`, `{"cString":"x","cInt64":1}`, `{"a":"2026-01-02T03:04:05Z"}`, `{"a":null,"b":[1,{"c":2}]}`,
	`{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}`, `{"@type":"nope"}`, `{`, `{} {}`, ` `, "\xff", `[1,]`, `{"a":1,"a":2}`,
}

// sameBody fails unless a body of one field means what protojson makes of that field.
func sameBody(t *testing.T, s *served, fd protoreflect.FieldDescriptor, doc string) {
	t.Helper()
	wanted := &testv1.Kinds{}
	whole := `{"` + fd.JSONName() + `":` + doc + `}`
	takes := json.Valid([]byte(doc)) && protojson.Unmarshal([]byte(whole), wanted) == nil
	if plain := fd.Message() != nil && !fd.IsList() && !fd.IsMap() && fd.Message().FullName().Parent() != "google.protobuf"; plain && strings.TrimSpace(doc) == "null" {
		takes = false // A request without its message is no call.
	}
	got, bad := s.message(t, "/x", doc)
	switch {
	case takes && got == nil:
		t.Errorf("%s as %s is refused: %s", doc, fd.Name(), bad)
	case !takes && got != nil && !isMaskOf(got, fd):
		t.Errorf("%s as %s is taken as %v", doc, fd.Name(), got)
	case takes && !proto.Equal(sorted(got), sorted(wanted)):
		t.Errorf("%s as %s is %v, not %v", doc, fd.Name(), got, wanted)
	}
}

// isMaskOf says that the message has a mask, which may be in snake_case.
func isMaskOf(m proto.Message, fd protoreflect.FieldDescriptor) bool {
	return fd.Message() != nil && fd.Message().Name() == "FieldMask" && m.ProtoReflect().Has(fd)
}

// sorted is the message as its JSON says it: what an Any holds may be in any order.
func sorted(m proto.Message) proto.Message {
	b, err := protojson.Marshal(m)
	out := m.ProtoReflect().New().Interface()
	if err != nil || protojson.Unmarshal(b, out) != nil {
		return m
	}
	return out
}

// TestBodyOfEveryKind: `body` may name a field of any kind, whose JSON is the JSON mapping's.
func TestBodyOfEveryKind(t *testing.T) {
	for _, fd := range fields((&testv1.Kinds{}).ProtoReflect().Descriptor()) {
		s := serve(t, &testv1.Kinds{}, "PUT /x", string(fd.Name()), request.Options{})
		for _, doc := range docs {
			sameBody(t, s, fd, doc)
		}
		empty := &testv1.Kinds{}
		if plain := fd.Message() != nil && !fd.IsList() && !fd.IsMap() && fd.Message().FullName().Parent() != "google.protobuf"; plain {
			empty.ProtoReflect().Mutable(fd) // As generated handlers have it.
		}
		if got, bad := s.message(t, "/x", ""); got == nil || !proto.Equal(got, empty) {
			t.Errorf("no body as %s: %v, %s", fd.Name(), got, bad)
		}
	}
}

// FuzzBody is TestBodyOfEveryKind with other bodies, also such as it makes up.
func FuzzBody(f *testing.F) {
	all := fields((&testv1.Kinds{}).ProtoReflect().Descriptor())
	var routes []*served
	for i, fd := range all {
		routes = append(routes, serve(f, &testv1.Kinds{}, "PUT /x", string(fd.Name()), request.Options{}))
		f.Add(uint8(i), uint64(0), docs[i%len(docs)])
	}
	f.Fuzz(func(t *testing.T, which uint8, seed uint64, doc string) {
		i := int(which) % len(all)
		if seed != 0 { // A doc within a doc.
			r := rand.New(rand.NewPCG(seed, 1))
			inner := docs[r.IntN(len(docs))]
			doc = strings.Replace(docs[r.IntN(len(docs))], "1", inner, 1)
		}
		if doc != "" {
			sameBody(t, routes[i], all[i], doc)
		}
	})
}

// TestWholeBody: the request may be a well-known type.
func TestWholeBody(t *testing.T) {
	for name, tc := range map[string]struct {
		in   proto.Message
		body string
		want proto.Message
	}{
		"a wrapper":            {&wrapperspb.StringValue{}, `"x"`, wrapperspb.String("x")},
		"a 64-bit wrapper":     {&wrapperspb.Int64Value{}, `"5"`, wrapperspb.Int64(5)},
		"a time":               {&timestamppb.Timestamp{}, `"1970-01-01T00:00:05Z"`, &timestamppb.Timestamp{Seconds: 5}},
		"a struct":             {&structpb.Struct{}, `{"a":1}`, &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewNumberValue(1)}}},
		"a value that is null": {&structpb.Value{}, `null`, structpb.NewNullValue()},
		"a message":            {&testv1.Kinds{}, `{"fInt32":5}`, &testv1.Kinds{FInt32: 5}},
		"no message":           {&testv1.Kinds{}, `null`, nil},
		"nothing":              {&testv1.Kinds{}, ``, &testv1.Kinds{}},
		"bytes":                {&httpbody.HttpBody{}, "\x00{", &httpbody.HttpBody{ContentType: "text/plain", Data: []byte("\x00{")}},
		"no bytes":             {&httpbody.HttpBody{}, "", &httpbody.HttpBody{ContentType: "text/plain"}},
	} {
		got, bad := serve(t, tc.in, "POST /x", "*", request.Options{}).message(t, "/x", tc.body)
		if (got == nil) != (tc.want == nil) || got != nil && !proto.Equal(got, tc.want) {
			t.Errorf("%s: %v, not %v: %s", name, got, tc.want, bad)
		}
	}
	raw := serve(t, &profilev1.UploadAvatarRequest{}, "PUT /x/{user_id}", "avatar", request.Options{})
	want := &profilev1.UploadAvatarRequest{UserId: "ada", Avatar: &httpbody.HttpBody{ContentType: "text/plain", Data: []byte("x")}}
	if got, bad := raw.message(t, "/x/ada", "x"); got == nil || !proto.Equal(got, want) {
		t.Errorf("%v, not %v: %s", got, want, bad)
	}
}
