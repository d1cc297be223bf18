package request_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/rest/request"
)

// TestRequests: a request and what the service receives, or all that is wrong with it.
func TestRequests(t *testing.T) {
	const get, post, put = "GET /e/{id}", "POST /e/{id}", "PUT /e/{id}"
	const oneof = "excludes %s, which the path gives: they are of one oneof"
	echo, kinds, old, blob := proto.Message(&testv1.EchoRequest{}), proto.Message(&testv1.Kinds{}), proto.Message(&testv1.Legacy{}), proto.Message(&testv1.BlobRequest{})
	for name, tc := range map[string]struct {
		in            proto.Message
		pattern, body string // of the binding
		target, sent  string
		want          string // as text format, or errors
		bad           bool
	}{
		"path":                        {echo, get, "", "/e/a", "", `id:"a"`, false},
		"path, body":                  {echo, post, "*", "/e/a", `{"failCode":3}`, `id:"a" fail_code:3`, false},
		"the path counts":             {echo, post, "*", "/e/a", `{"id":"b"}`, `id:"a"`, false},
		"the path counts, if empty":   {echo, "POST /e/{id=**}", "*", "/e", `{"id":"b"}`, ``, false},
		"the path counts, if zero":    {kinds, "POST /{f_int32}", "*", "/0", `{"fInt32":5}`, ``, false},
		"nested path":                 {echo, "GET /e/{inner.owner}/{kinds.f_message.f_enum}", "", "/e/a/COLOR_RED", "", `inner{owner:"a"} kinds{f_message{f_enum:COLOR_RED}}`, false},
		"path in the body's field":    {echo, "PUT /e/{inner.owner}", "inner", "/e/a", `{"owner":"b","tags":["t"]}`, `inner{owner:"a" tags:"t"}`, false},
		"several segments":            {echo, "GET /{id=a/*/b/**}", "", "/a/x/b/y/z", "", `id:"a/x/b/y/z"`, false},
		"a time in the path":          {kinds, "POST /{w_timestamp}/{w_duration}/{w_int32}", "*", "/1970-01-01T00:00:05Z/1.5s/7", `{"fBool":true}`, `f_bool:true w_timestamp{seconds:5} w_duration{seconds:1 nanos:500000000} w_int32{value:7}`, false},
		"query":                       {echo, get, "", "/e/a?fail_code=3&inner.tags=x&inner.tags=y&inner.number=0&kinds.oInt32=0", "", `id:"a" fail_code:3 inner{tags:"x" tags:"y"} kinds{o_int32:0}`, false},
		"query beside a body's field": {echo, put, "kinds", "/e/a?inner.owner=o", `{"fInt32":1}`, `id:"a" kinds{f_int32:1} inner{owner:"o"}`, false},
		"packed":                      {kinds, "GET /", "", "/?rInt32=1&rInt32=-2&r_double=1.5", "", `r_int32:1 r_int32:-2 r_double:1.5`, false},
		"maps":                        {kinds, "GET /", "", "/?mString[a]=b&mString[c.d]=&mBool[true]=COLOR_BLUE&f_message.mString[x]=y&mwTimestamp[a]=1970-01-01T00:00:05Z", "", `m_string{key:"a" value:"b"} m_string{key:"c.d" value:""} m_bool{key:true value:COLOR_BLUE} f_message{m_string{key:"x" value:"y"}} mw_timestamp{key:"a" value{seconds:5}}`, false},
		"a oneof":                     {kinds, "GET /", "", "/?cMessage.owner=a&cMessage.number=3", "", `c_message{owner:"a" number:3}`, false},
		"parts of well-known types":   {kinds, "GET /", "", "/?wTimestamp.seconds=5&wString.value=x", "", `w_timestamp{seconds:5} w_string{value:"x"}`, false},
		"escapes":                     {echo, get, "", "/e/a?fail_message=a%26b+c%3D&inner.owner=%E2%82%AC", "", `id:"a" fail_message:"a&b c=" inner{owner:"€"}`, false},
		"groups":                      {old, "GET /{id}", "", "/x?part.name=n&Part.name=m", "", "Part.name: names the same field as part.name", true},
		"a group":                     {old, "GET /{id}", "", "/x?part.name=n&size=SIZE_SMALL&chosen.flag=false", "", `id:"x" Part{name:"n"} size:SIZE_SMALL Chosen{flag:false}`, false},

		"required in the path":  {old, "POST /{id}", "*", "/x", `{"note":"n"}`, `id:"x" note:"n"`, false},
		"required in the query": {old, "POST /{note}", "c_message", "/n?id=x", `{"id":"y"}`, `id:"x" note:"n" c_message{id:"y"}`, false},
		"required and nowhere":  {old, "POST /{note}", "*", "/n", `{}`, "id: is required", true},
		"required deep inside":  {old, "POST /{id}", "*", "/n", `{"cMessage":{}}`, "c_message.id: is required", true},

		"unknown": {echo, get, "", "/e/a?nope=1&inner.nope=2&nope.x=3", "", "nope: unknown query parameter\ninner.nope: unknown query parameter\nnope.x: unknown query parameter", true},
		"malformed": {echo, get, "", "/e/a?inner..owner=1&.=1&inner.=1&kinds.mString[=1&kinds.mString=1&inner[x]=1&kinds.rInt32[]=1&=1&kinds.mString[a]b=1&id[=1", "", strings.Join([]string{
			"inner..owner: unknown query parameter: it is malformed, for a name is missing", ".: unknown query parameter: it is malformed, for a name is missing", "inner.: unknown query parameter: it is malformed, for a name is missing",
			"kinds.mString[: unknown query parameter: it is malformed, for ] is missing at its end", "kinds.mString: is a map: give an entry, as kinds.mString[key]", "inner[x]: unknown query parameter: only maps have keys in brackets",
			"kinds.rInt32[]: unknown query parameter: values of a list are given without brackets, each by a parameter of its own", "query: unknown query parameter: it is malformed, for a name is missing",
			"kinds.mString[a]b: unknown query parameter: it is malformed, for ] is missing at its end", "id[: unknown query parameter: only maps have keys in brackets"}, "\n"), true},
		"too deep":              {kinds, "GET /", "", "/?" + strings.Repeat("fMessage.", 64) + "fInt32=1", "", strings.Repeat("fMessage.", 64) + "fInt32: leads through too many messages", true},
		"through no message":    {kinds, "GET /", "", "/?fInt32.x=1&rMessage.owner=a&mString.a=b", "", "fInt32.x: unknown query parameter\nrMessage.owner: unknown query parameter\nmString.a: unknown query parameter", true},
		"no texts":              {kinds, "GET /", "", "/?fMessage=1&rMessage=1&mInt64[1]=x&wAny=x", "", "fMessage: is a message: name one of its fields, such as fMessage.f_double\nrMessage: is a list of messages, which a query cannot give\nmInt64[1]: is a map of messages, which a query cannot give\nwAny: is a message: name one of its fields, such as wAny.type_url", true},
		"a key twice":           {blob, "GET /{id}", "", "/a?notes[1]=x&notes[01]=y&notes[-1]=z&notes[x]=1&notes[4294967296]=1", "", "notes[01]: names the same field as notes[1]\nnotes[x]: must have keys that are integers from -2147483648 to 2147483647\nnotes[4294967296]: must have keys that are integers from -2147483648 to 2147483647", true},
		"twice":                 {echo, get, "", "/e/a?padding=1&padding=2&fail_code=0&failCode=0&kinds.mString[a]=1&kinds.m_string[a]=1", "", "padding: is given more than once\nfailCode: names the same field as fail_code\nkinds.m_string[a]: names the same field as kinds.mString[a]", true},
		"taken":                 {echo, "PUT /e/{id}/{inner.owner}", "kinds", "/e/a/b?id=c&inner.owner=d&inner=x&kinds.fInt32=1&kinds=1", "{}", "id: is taken from the path\ninner.owner: is taken from the path\ninner: is a message: name one of its fields, such as inner.owner\nkinds.fInt32: is taken from the body\nkinds: is a message: name one of its fields, such as kinds.f_double", true},
		"beside a whole body":   {echo, post, "*", "/e/a?padding=1&nope=2", "{}", "padding: unknown query parameter: this call takes its fields from the body\nnope: unknown query parameter: this call takes its fields from the body", true},
		"a whole and its part":  {kinds, "GET /", "", "/?w_timestamp=1970-01-01T00:00:05Z&wTimestamp.nanos=5", "", "w_timestamp: is given beside a part of it, wTimestamp.nanos", true},
		"a part and its whole":  {kinds, "GET /", "", "/?wTimestamp.nanos=5&w_timestamp=1970-01-01T00:00:05Z", "", "w_timestamp: is given beside a part of it, wTimestamp.nanos", true},
		"two of a oneof":        {kinds, "GET /", "", "/?cString=a&cInt64=5&fMessage.cInt64=1&fMessage.cMessage.owner=x", "", "cInt64: excludes cString, which is given, too: they are of one oneof\nfMessage.cMessage.owner: excludes fMessage.cInt64, which is given, too: they are of one oneof", true},
		"of path and query":     {kinds, "GET /{f_message.c_string}", "", "/a?fMessage.cInt64=1", "", "fMessage.cInt64: excludes f_message.c_string, which is given, too: they are of one oneof", true},
		"of path and body":      {kinds, "POST /{c_string}", "*", "/a", `{"cMessage":{}}`, "c_message: " + strings.Replace(oneof, "%s", "c_string", 1), true},
		"deep in path and body": {kinds, "POST /{f_message.c_message.owner}", "f_message", "/a", `{"cInt64":"1"}`, "f_message.c_int64: " + strings.Replace(oneof, "%s", "f_message.c_message.owner", 1), true},
		"merged into a oneof":   {kinds, "POST /{c_message.owner}", "*", "/a", `{"cMessage":{"number":1}}`, `c_message{owner:"a" number:1}`, false},
		"of body and query":     {kinds, "POST /", "c_string", "/?cInt64=1", `"x"`, "cInt64: excludes c_string, which is given, too: they are of one oneof", true},
		"of no body and query":  {kinds, "POST /", "c_string", "/?cInt64=1", ``, `c_int64:1`, false},
		"of a body":             {kinds, "POST /", "*", "/", `{"cString":"a","cInt64":1}`, "c_int64: excludes c_string, which is given, too: they are of one oneof, at line 1, column 16", true},
		"a message given twice": {kinds, "POST /{w_timestamp}", "*", "/1970-01-01T00:00:05Z", `{"wTimestamp":"1970-01-01T00:00:05.5Z"}`, "w_timestamp: is taken from the path", true},
		"of a wrong kind":       {kinds, "GET /{f_int32}", "", "/x?rInt64=1&rInt64=x&fBool=1&w_duration=1m", "", "f_int32: must be an integer from -2147483648 to 2147483647\nrInt64: must be an integer from -9223372036854775808 to 9223372036854775807\nfBool: must be true or false\nw_duration: must be a number of seconds with an s behind it, such as 1.5s, up to 315576000000s", true},
		"all at once":           {echo, "PUT /e/{fail_code}", "kinds", "/e/x?nope=1", "{\"fInt32\":\"a\",\n\"nope\":1}", "kinds.f_int32: must be an integer from -2147483648 to 2147483647, at line 1, column 11\nkinds.nope: unknown field, at line 2, column 1\nfail_code: must be an integer from -2147483648 to 2147483647\nnope: unknown query parameter", true},
		"no JSON":               {echo, post, "*", "/e/a", "{\n \"id\": ]", "body: is not JSON: a value is wanted here, at line 2, column 8", true},
		"no object":             {echo, put, "kinds", "/e/a", " []", "kinds: must be an object, at line 1, column 2", true},
		"no object, whole":      {echo, post, "*", "/e/a", "null", "body: must be an object, at line 1, column 1", true},
		"not UTF-8":             {echo, get, "", "/e/a?fail_message=%ff&%fe=1", "", "fail_message: must be UTF-8\n\xfe: unknown query parameter", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, tc.in, tc.pattern, tc.body, request.Options{})
			got, bad := s.message(t, tc.target, tc.sent)
			if tc.bad {
				if bad != tc.want {
					t.Errorf("got %v\n%s\nwant\n%s", got, bad, tc.want)
				}
				return
			}
			want := tc.in.ProtoReflect().New().Interface()
			if err := prototext.Unmarshal([]byte(tc.want), want); err != nil {
				t.Fatal(err)
			}
			if got == nil || !proto.Equal(got, want) {
				t.Errorf("got %v, want %v\n%s", got, want, bad)
			}
		})
	}
}

// TestMasks: a mask that is given alone counts; else a PATCH has one of the names in its
// body. A mask means the same in query and body.
func TestMasks(t *testing.T) {
	patch := serve(t, &userv1.UpdateUserRequest{}, "PATCH /{user.user_id}", "user", request.Options{})
	whole := serve(t, &userv1.UpdateUserRequest{}, "PATCH /{user.user_id}", "*", request.Options{})
	put := serve(t, &userv1.UpdateUserRequest{}, "PUT /{user.user_id}", "user", request.Options{})
	const body = `{"displayName":"Ada","email":null}`
	for name, tc := range map[string]struct {
		s           *served
		query, body string
		want        string // the paths; "none" is no mask
	}{
		"of the body":         {patch, "", body, "display_name email"},
		"of an empty body":    {patch, "", "{}", ""},
		"of no body":          {patch, "", "", ""},
		"given":               {patch, "?updateMask=email", body, "email"},
		"given by proto name": {patch, "?update_mask=email,display_name", body, "email display_name"},
		"in snake_case":       {patch, "?updateMask=display_name,displayName", body, "display_name display_name"},
		"all":                 {patch, "?updateMask=*", body, "*"},
		"empty":               {patch, "?updateMask=", body, ""},
		"by its field":        {patch, "?updateMask.paths=email&update_mask.paths=display_name", body, "names"},
		"by its field, once":  {patch, "?updateMask.paths=email&updateMask.paths=display_name", body, "email display_name"},
		"malformed":           {patch, "?updateMask=a,,b", body, "bad"},
		"in a whole body":     {whole, "", `{"user":` + body + `,"updateMask":"display_name,email"}`, "display_name email"},
		"empty in a body":     {whole, "", `{"user":` + body + `,"updateMask":""}`, ""},
		"malformed in a body": {whole, "", `{"user":` + body + `,"updateMask":"a,,b"}`, "bad"},
		"of a whole body":     {whole, "", `{"user":` + body + `}`, "none"},
		"of a PUT":            {put, "", body, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			m, bad := tc.s.message(t, "/ada"+tc.query, tc.body)
			got := "none"
			switch {
			case strings.Contains(bad, "names the same"):
				got = "names"
			case m == nil:
				got = "bad"
			case m.(*userv1.UpdateUserRequest).UpdateMask != nil:
				got = strings.Join(m.(*userv1.UpdateUserRequest).UpdateMask.Paths, " ")
			}
			if got != tc.want {
				t.Errorf("%s, not %s: %s", got, tc.want, bad)
			}
		})
	}
}

// TestPatchClears: null clears a field whatever its type, and names it in the mask.
func TestPatchClears(t *testing.T) {
	for name, doc := range map[string]string{"w_any": `{"wAny":null}`, "w_struct": `{"wStruct":null}`, "w_value": `{"wValue":null}`, "f_message": `{"fMessage":null}`, "c_null": `{"cNull":null}`, "r_int32": `{"rInt32":null}`} {
		s := serve(t, &testv1.EchoRequest{}, "PATCH /{id}", "kinds", request.Options{})
		got, bad := s.message(t, "/a", doc)
		if want := (&testv1.EchoRequest{Id: "a", Kinds: &testv1.Kinds{}}); got == nil || !proto.Equal(got, want) {
			t.Errorf("%s: %v: %s", name, got, bad)
		}
	}
}

// TestIgnored: what has no field may be ignored, by name or by how it begins.
func TestIgnored(t *testing.T) {
	o := request.Options{IgnoreQuery: []string{"utm_*", "gclid", "pad*"}}
	for _, s := range []*served{serve(t, &testv1.EchoRequest{}, "GET /{id}", "", o), serve(t, &testv1.EchoRequest{}, "POST /{id}", "*", o)} {
		if got, bad := s.message(t, "/a?utm_source=x&gclid=%ff&utm_[=1&utm_source=y", ""); got == nil {
			t.Errorf("%s", bad)
		}
		if _, bad := s.message(t, "/a?gclid2=x&xutm_=1", ""); !strings.HasPrefix(bad, "gclid2: unknown") || !strings.Contains(bad, "\nxutm_: unknown") {
			t.Errorf("%s", bad)
		}
	}
	s := serve(t, &testv1.EchoRequest{}, "GET /{id}", "", o)
	if got, _ := s.message(t, "/a?padding=5", ""); got == nil || got.(*testv1.EchoRequest).Padding != 5 {
		t.Errorf("a field was ignored: %v", got)
	}
	for _, bad := range []string{"", "*", "a*b", "**"} {
		if _, err := request.Compile(binding(t, &testv1.EchoRequest{}, "GET /", ""), request.Options{IgnoreQuery: []string{bad}}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestManyErrors: an answer is bounded.
func TestManyErrors(t *testing.T) {
	s := serve(t, &testv1.Kinds{}, "POST /", "f_message", request.Options{})
	_, bad := s.message(t, "/?"+strings.Repeat("nope=1&", 50), `{"rInt32":[`+strings.Repeat(`"x",`, 50)+`1]}`)
	if n := strings.Count(bad, "\n") + 1; n != 20 {
		t.Errorf("%d errors", n)
	}
}

// TestBrokenQueries: what net/url refuses.
func TestBrokenQueries(t *testing.T) {
	for _, q := range []string{"a;b", "a=%zz", "%", "a=1&%g1=2"} {
		if got, err := request.ParseQuery(nil, q); err == nil {
			t.Errorf("%q is %v", q, got)
		}
	}
	got, err := request.ParseQuery(nil, "&&a=b=c&d&e+f=%2B+&")
	if want := []request.Parameter{{"a", "b=c"}, {"d", ""}, {"e f", "+ "}}; err != nil || len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("%v, %v", got, err)
	}
}
