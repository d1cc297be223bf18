package request_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/proto"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/rest/request"
)

// FuzzQuery: whatever a query is, it is either refused by name or every parameter of it
// counts; and what both we and grpc-gateway take means the same to both.
func FuzzQuery(f *testing.F) {
	s := serve(f, &testv1.EchoRequest{}, "GET /{id}", "", request.Options{})
	for _, q := range []string{
		"fail_code=1&kinds.rInt32=1&kinds.rInt32=2", "kinds.mString[a]=b&kinds.m_string[b]=c", "inner.inner.owner=x&inner.tags=a", "kinds.cString=a&kinds.cInt64=1",
		"kinds.wTimestamp=2026-01-02T03:04:05Z&delay=1.5s", "kinds.wMask=a,fooBar&kinds.w_mask.paths=x", "kinds.w_value=[1]&kinds.wStruct={}", "a..b=1&[=2&=3&.=4", "kinds.fBytes=_-8&kinds.fEnum=-1&kinds.fDouble=1e5",
	} {
		f.Add(q)
	}
	none := utilities.NewDoubleArray(nil)
	f.Fuzz(func(t *testing.T, query string) {
		params, err := request.ParseQuery(nil, query)
		values, uerr := url.ParseQuery(query)
		if (err == nil) != (uerr == nil) {
			t.Fatalf("%q: %v, but net/url %v", query, err, uerr)
		}
		if err != nil {
			return
		}
		total := 0
		for key, vs := range values {
			if total += len(vs); strings.Count(key, "[") > 1 { // The key of an entry may have one: theirs ignores it then.
				return
			}
		}
		if total != len(params) {
			t.Fatalf("%q: %v, but net/url %v", query, params, values)
		}
		ours, _ := s.message(t, "/x?"+query, "")
		theirs := &testv1.EchoRequest{}
		if ours == nil || runtime.PopulateQueryParameters(theirs, values, none) != nil {
			return
		}
		theirs.Id = "x"
		if !proto.Equal(ours, theirs) && !hasMask(ours.(*testv1.EchoRequest)) {
			t.Fatalf("%q:\nours   %v\ntheirs %v", query, ours, theirs)
		}
	})
}

// hasMask says that there is a mask, whose names we write as protobuf does.
func hasMask(m *testv1.EchoRequest) bool {
	for k := m.GetKinds(); k != nil; k = k.GetFMessage() {
		if k.WMask != nil {
			return true
		}
	}
	return false
}
