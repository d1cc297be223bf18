package request_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/rest/request"
)

// TestCompile: what google.api.http allows compiles; the rest is refused with its reason.
func TestCompile(t *testing.T) {
	for name, tc := range map[string]struct {
		in            proto.Message
		pattern, body string
		streams       bool
		want          string // of the error; "" is that it compiles
	}{
		"a plain one":             {&testv1.EchoRequest{}, "GET /{id}", "", false, ""},
		"a wrapper as a whole":    {&wrapperspb.StringValue{}, "PUT /", "*", false, ""},
		"a wrapper's own field":   {&wrapperspb.StringValue{}, "GET /{value}", "", false, ""},
		"a message's field":       {&testv1.EchoRequest{}, "GET /{kinds.w_timestamp.seconds}", "", false, ""},
		"a part of the body":      {&testv1.EchoRequest{}, "PUT /{inner.owner}", "inner", false, ""},
		"a client's stream":       {&testv1.EchoRequest{}, "POST /{id}", "*", true, ""},
		"a stream without a body": {&testv1.EchoRequest{}, "GET /{id}", "", true, "the client streams messages, and without a `body` the binding has no place for them"},
		"no such body":            {&testv1.EchoRequest{}, "PUT /", "nope", false, `body: sluice.test.v1.EchoRequest has no field "nope"`},
		"a body by its JSON name": {&testv1.EchoRequest{}, "PUT /", "failCode", false, `body: sluice.test.v1.EchoRequest has no field "failCode"`},
		"no such variable":        {&testv1.EchoRequest{}, "GET /{inner.nope}", "", false, `path variable inner.nope: sluice.test.v1.Inner has no field "nope"`},
		"a list":                  {&testv1.EchoRequest{}, "GET /{inner.tags}", "", false, "path variable inner.tags: a field with many values cannot be given by a path"},
		"a map":                   {&testv1.EchoRequest{}, "GET /{kinds.m_string}", "", false, "path variable kinds.m_string: a field with many values"},
		"a message":               {&testv1.EchoRequest{}, "GET /{inner}", "", false, "path variable inner: a message of type sluice.test.v1.Inner cannot be given by a path"},
		"a struct":                {&testv1.EchoRequest{}, "GET /{kinds.w_struct}", "", false, "google.protobuf.Struct cannot be given"},
		"through a scalar":        {&testv1.EchoRequest{}, "GET /{id.x}", "", false, "path variable id.x: id is not a message"},
		"through a list":          {&testv1.EchoRequest{}, "GET /{kinds.r_message.owner}", "", false, "r_message is not a message"},
		"the body itself":         {&testv1.EchoRequest{}, "PUT /{id}", "id", false, "path variable id: is taken from the body"},
		"two of a oneof":          {&testv1.Kinds{}, "GET /{c_string}/{c_int64}", "", false, "path variable c_int64: excludes c_string, which is given, too"},
		"a oneof with the body":   {&testv1.Kinds{}, "PUT /{c_string}", "c_int64", false, "path variable c_string: excludes c_int64, which is given, too"},
	} {
		b := binding(t, tc.in, tc.pattern, tc.body)
		b.ClientStreams = tc.streams
		_, err := request.Compile(b, request.Options{})
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, not %s", name, err, tc.want)
		}
	}
}

// TestStreamedMessages: path and query are part of each message of a client's stream.
func TestStreamedMessages(t *testing.T) {
	s := serve(t, &testv1.EchoRequest{}, "POST /{id}", "inner", request.Options{})
	for _, owner := range []string{"a", "b"} {
		got, bad := s.message(t, "/x?padding=3", `{"owner":"`+owner+`"}`)
		if want := (&testv1.EchoRequest{Id: "x", Padding: 3, Inner: &testv1.Inner{Owner: owner}}); got == nil || !proto.Equal(got, want) {
			t.Errorf("%v: %s", got, bad)
		}
	}
}

// TestHeaderField: a header fills its field, and never changes what is there.
func TestHeaderField(t *testing.T) {
	b := binding(t, &testv1.EchoRequest{}, "GET /", "")
	for field, want := range map[string]string{"inner.owner": "", "id": "", "inner.tags": `"inner.tags" is no string`, "nope": "there is no field", "padding": "is no string", "kinds.c_string": "in a oneof", "id.x": "there is no field"} {
		_, err := request.NewHeaderField(b.Plan, "If-Match", field)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", field, err)
		}
	}
	h, err := request.NewHeaderField(b.Plan, "If-Match", "inner.owner")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		in     *testv1.EchoRequest
		values []string
		want   string // the field, or an error
	}{
		"no header": {&testv1.EchoRequest{Inner: &testv1.Inner{Owner: "x"}}, nil, "x"},
		"new":       {&testv1.EchoRequest{Id: "a"}, []string{"v"}, "v"},
		"beside":    {&testv1.EchoRequest{Inner: &testv1.Inner{Number: 5}}, []string{"v"}, "v"},
		"the same":  {&testv1.EchoRequest{Inner: &testv1.Inner{Owner: "v"}}, []string{"v"}, "v"},
		"another":   {&testv1.EchoRequest{Inner: &testv1.Inner{Owner: "x"}}, []string{"v"}, "If-Match: differs from inner.owner"},
		"twice":     {&testv1.EchoRequest{}, []string{"v", "v"}, "If-Match: must be given once and not be empty"},
		"empty":     {&testv1.EchoRequest{}, []string{""}, "If-Match: must be given once and not be empty"},
		"not UTF-8": {&testv1.EchoRequest{}, []string{"\xff"}, "If-Match: must be UTF-8"},
	} {
		wire, err := proto.Marshal(tc.in)
		if err != nil {
			t.Fatal(err)
		}
		out, err := h.Append(wire, tc.values)
		got := &testv1.EchoRequest{}
		if perr := proto.Unmarshal(out, got); perr != nil {
			t.Fatal(perr)
		}
		text := got.GetInner().GetOwner()
		if bad := (request.Errors)(nil); errors.As(err, &bad) {
			text = lines(bad)
		}
		if text != tc.want || got.GetInner().GetNumber() != tc.in.GetInner().GetNumber() || got.Id != tc.in.Id {
			t.Errorf("%s: %s, not %s", name, text, tc.want)
		}
	}
}
