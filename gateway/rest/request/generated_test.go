package request_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/rest/request"
	"github.com/sluice-gateway/sluice/gateway/route"
	"github.com/sluice-gateway/sluice/gateway/schema"
)

// recorder is a connection that keeps the request of a call, and fails.
type recorder struct {
	grpc.ClientConnInterface
	got proto.Message
}

func (r *recorder) Invoke(_ context.Context, _ string, in, _ any, _ ...grpc.CallOption) error {
	r.got = proto.Clone(in.(proto.Message))
	return status.Error(codes.Aborted, "recorded")
}

// both are the unary bindings of services that have generated handlers, served by these
// and by programs.
type both struct {
	mux      *runtime.ServeMux
	recorder *recorder
	index    route.Index[*served]
	patterns []string // each a verb and a path
}

func newBoth(tb testing.TB) *both {
	tb.Helper()
	b := &both{recorder: &recorder{}, mux: runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{UnmarshalOptions: protojson.UnmarshalOptions{}}))}
	ctx := context.Background()
	for _, err := range []error{
		testv1.RegisterTestServiceHandlerClient(ctx, b.mux, testv1.NewTestServiceClient(b.recorder)),
		userv1.RegisterUserServiceHandlerClient(ctx, b.mux, userv1.NewUserServiceClient(b.recorder)),
		orderv1.RegisterOrderServiceHandlerClient(ctx, b.mux, orderv1.NewOrderServiceClient(b.recorder)),
		profilev1.RegisterProfileServiceHandlerClient(ctx, b.mux, profilev1.NewProfileServiceClient(b.recorder)),
	} {
		if err != nil {
			tb.Fatal(err)
		}
	}
	for _, file := range []protoreflect.FileDescriptor{testv1.File_sluice_test_v1_test_proto, userv1.File_shop_user_v1_user_proto, orderv1.File_shop_order_v1_order_proto, profilev1.File_shop_profile_v1_profile_proto} {
		for _, of := range bindingsOf(tb, file.Services().Get(0)) {
			b.add(tb, of)
		}
	}
	return b
}

func (b *both) add(tb testing.TB, of *schema.Binding) {
	tb.Helper()
	m := of.Method.Descriptor
	if m.IsStreamingClient() || m.IsStreamingServer() || of.Body == "avatar" { // A google.api.HttpBody is the edge's to decode.
		return
	}
	mt, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
	if err != nil {
		tb.Fatal(err)
	}
	s := serve(tb, mt.New().Interface(), of.Verb+" "+of.Template.String(), of.Body, request.Options{})
	if err := b.index.Add(of.Verb, of.Template, s); err != nil {
		tb.Fatal(err)
	}
	literals, variables := of.Template.Parts()
	path := literals[0]
	for i, v := range variables {
		path += strings.NewReplacer("**", "b/c", "*", "a1").Replace(of.Template.Pattern(v)) + literals[i+1]
	}
	b.patterns = append(b.patterns, of.Verb+" "+path)
}

// same fails where both ways take a request and do not mean the same by it. What only one
// of them takes is another test's: the edge refuses what is unknown, and grpc-gateway's
// values are not those of the JSON mapping.
func (b *both) same(t *testing.T, pattern, query, body string) (ours, theirs bool) {
	t.Helper()
	verb, path, _ := strings.Cut(pattern, " ")
	s, _, ok := b.index.Lookup(verb, path)
	r := httptest.NewRequest(verb, path, strings.NewReader(body))
	r.URL.RawQuery = query
	b.recorder.got = nil
	b.mux.ServeHTTP(httptest.NewRecorder(), r)
	if !ok {
		t.Fatalf("no route for %s", pattern)
	}
	if _, err := request.ParseQuery(nil, query); err != nil {
		return false, b.recorder.got != nil
	}
	got, _ := s.message(t, path+"?"+query, body)
	want := b.recorder.got
	if got == nil || want == nil {
		return got != nil, want != nil
	}
	if verb == http.MethodPatch {
		maskApart(got, want, query)
	}
	if !proto.Equal(got, want) {
		t.Errorf("%s?%s %s:\nours   %v\ntheirs %v", pattern, query, body, got, want)
	}
	return true, true
}

// maskApart takes the mask out of what is compared where the two are meant to differ: one
// that is given alone counts for us, and an empty body names no field, not one without a name.
func maskApart(got, want proto.Message, query string) {
	fd := want.ProtoReflect().Descriptor().Fields().ByName("update_mask")
	paths := dynamicpb.NewMessage(fd.Message()).Descriptor().Fields().ByName("paths")
	list := want.ProtoReflect().Get(fd).Message().Get(paths).List()
	if query != "" || list.Len() == 1 && list.Get(0).String() == "" {
		got.ProtoReflect().Clear(fd)
		want.ProtoReflect().Clear(fd)
	}
}

var (
	someQueries = []string{
		"", "fail_code=3", "failCode=3&padding=7", "inner.owner=o&inner.tags=a&inner.tags=b&inner.inner.number=-1", "kinds.fInt32=5&kinds.rInt32=1&kinds.rInt32=2&kinds.mString[k]=v",
		"kinds.cMessage.owner=x&kinds.cMessage.number=1", "kinds.wTimestamp=2026-01-02T03:04:05.5Z&kinds.wInt64=0&delay=1.5s", "kinds.oInt32=0&kinds.oString=&kinds.fEnum=COLOR_RED",
		"page_size=5&pageToken=x&filter=a%3Db", "user_ids=a&user_ids=b", "userIds=a&userIds=b", "updateMask=email", "update_mask=display_name,email", "requestId=r&etag=e", "count=2", "id=x", "nope=1", "kinds.wStruct={%22a%22:1}",
		"tenant_id=x&page_size=1", "validate_only=true", "inner.owner=", "kinds.fBytes=_-8",
	}
	someBodies = []string{
		"", "{}", `{"id":"other","failCode":3}`, `{"kinds":{"fInt32":5,"wValue":null,"cNull":null,"mInt64":{"1":{"owner":"x"}}}}`, `{"fInt32":5,"rMessage":[{},{"owner":"a"}],"wAny":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}}`,
		`{"userId":"other","email":"a@b.example","displayName":null}`, `{"email":"a@b.example","phone":""}`, `{"displayName":"x","bio":"y","links":["a"]}`, `{"user":{"email":"a@b.example"},"requestId":"r"}`, `{"order":{"lines":[{"sku":"s","quantity":2,"price":{"units":"3"}}]}}`,
		`{"lines":[{"sku":"s","quantity":2}],"note":"n"}`, `{"inner":{"owner":"x","inner":{"tags":["a","b"]}}}`, "null", "[]", `{"nope":1}`, `{"owner":"x"}`,
	}
)

// TestAgainstGenerated: what generated handlers and programs both take means the same.
func TestAgainstGenerated(t *testing.T) {
	b, compared := newBoth(t), 0
	for _, pattern := range b.patterns {
		taken := 0
		for _, query := range someQueries {
			for _, body := range someBodies {
				if ours, theirs := b.same(t, pattern, query, body); ours && theirs {
					taken++
				}
			}
		}
		if taken == 0 {
			t.Errorf("%s: nothing was compared", pattern)
		}
		compared += taken
	}
	t.Logf("%d bindings, %d requests that both take", len(b.patterns), compared)
}

// FuzzAgainstGenerated is TestAgainstGenerated with other queries and bodies.
func FuzzAgainstGenerated(f *testing.F) {
	b := newBoth(f)
	for i := range b.patterns {
		f.Add(uint8(i), someQueries[i%len(someQueries)], someBodies[i%len(someBodies)])
	}
	f.Fuzz(func(t *testing.T, which uint8, query, body string) {
		for _, c := range []byte(query) {
			if c <= ' ' || c >= 0x7f || c == '#' || c == '[' && strings.Count(query, "[") > 1 {
				return
			}
		}
		if !strings.Contains(strings.ToLower(query), "mask") { // Theirs splits at commas, whatever is between.
			b.same(t, b.patterns[int(which)%len(b.patterns)], query, body)
		}
	})
}
