package rest

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// FuzzExplain: whatever the parser refuses is explained, without the words of
// a library, and the same each time.
func FuzzExplain(f *testing.F) {
	for _, seed := range []string{`{}`, `null`, `[]`, `{"nope":1}`, `{"kinds":{"fInt32":"x"}}`, `{"kinds":{"rMessage":[{},{"nope":1}]}}`,
		`{"kinds":{"mInt64":{"x":{}}}}`, `{"kinds":{"wAny":{"@type":"x"}}}`, `{"kinds":{"wValue":{"a":[1,null]}}}`, `{"id":1,"id":2}`,
		`{"kinds":{"cString":"a","cInt64":1}}`, `{"kinds":{"wTimestamp":"x","wMask":7,"wDuration":"1"}}`, "{\n ]", `{"id":"\ud800"}`, `{"kinds":{"fDouble":"NaN"}}`} {
		f.Add([]byte(seed))
	}
	post, put := bindingOf(f, "POST"), bindingOf(f, "PUT")
	m := newMarshaler(inputs{})
	for _, b := range []*Binding{post, put} {
		m.inputs.add(b)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for b, err := range map[*Binding]error{
			post: m.decode(&jsonBody{data: body}, &testv1.EchoRequest{}),
			put:  m.decode(&jsonBody{data: body}, &testv1.Kinds{}),
		} {
			if err == nil || len(body) == 0 {
				continue
			}
			bad := explained(t, b, "", body)
			if len(bad) == 0 || len(bad) > maxFindings {
				t.Fatalf("%d findings for %v", len(bad), err)
			}
			for i, v := range bad {
				if v.GetField() == "" || v.GetDescription() == "" || strings.Contains(v.GetDescription(), "proto:") {
					t.Errorf("%v for %v", v, err)
				}
				if again := explained(t, b, "", body); again[i].GetField() != v.GetField() {
					t.Errorf("%v, then %v", v, again[i])
				}
			}
		}
	})
}

// FuzzQuery: a query is taken whole or refused by name. What is taken, the
// handler's own parser takes too, or it is explained.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"", "id=x", "padding=1&padding=2", "inner.number=5&inner.tags=a&inner.tags=b", "kinds.w_mask=fooBar,baz", "kinds.m_string[a]=b",
		"kinds.m_string[a=b", "kinds[x]=1", "[]=1", "=1", "a=%zz", "kinds.wTimestamp=x", "fail_code=x&failCode=1", "kinds.w_empty=", "kinds.w_any=1", "kinds.w_list=1", "inner.inner.inner.owner=x", "a;b", "\xff=1", "kinds.r_message.owner=1"} {
		f.Add(seed)
	}
	get := bindingOf(f, "GET")
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.RawQuery = query
		x := asking(get, r)
		form, err := x.readQuery()
		if err != nil {
			st := status.Convert(err)
			if st.Code() != codes.InvalidArgument || len(st.Details()) != 1 || len(st.Details()[0].(*errdetails.BadRequest).GetFieldViolations()) == 0 {
				t.Fatalf("%v", err)
			}
			return
		}
		for key := range form {
			if key == "id" || strings.HasPrefix(key, "id.") {
				t.Errorf("%q was taken beside the path", key)
			}
		}
		if err := runtime.PopulateQueryParameters(&testv1.EchoRequest{}, form, utilities.NewDoubleArray([][]string{{"id"}})); err != nil {
			bad := explained(t, get, query, nil)
			if slices.ContainsFunc(bad, func(v *errdetails.BadRequest_FieldViolation) bool { return v.GetField() == "" }) {
				t.Errorf("%v for %v", bad, err)
			}
		}
	})
}
