package rest

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"google.golang.org/protobuf/proto"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/schema"
)

var update = flag.Bool("update", false, "write the golden files")

// bindingOf is a binding of Echo: POST with a whole body, GET, PUT with one
// field as the body.
func bindingOf(t testing.TB, verb string) *Binding {
	t.Helper()
	sd := testv1.File_sluice_test_v1_test_proto.Services().ByName("TestService")
	table, err := schema.New([]protoreflect.ServiceDescriptor{sd}, schema.Options{Linked: protoregistry.GlobalTypes})
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range table.Method("/sluice.test.v1.TestService/Echo").Bindings {
		if of.Verb == verb {
			b, err := newBinding(of)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatal("no binding for " + verb)
	return nil
}

func locationOf(t *testing.T, l *location, m proto.Message) string {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	text, err := l.of(b)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestLocation(t *testing.T) {
	md := (&testv1.EchoResponse{}).ProtoReflect().Descriptor()
	m := &testv1.EchoResponse{Id: "a/b c%é?#", Name: "n", Inner: &testv1.Inner{Owner: "ada"}}
	for template, want := range map[string]string{
		"/v1/x":                    "/v1/x",
		"/v1/{name}":               "/v1/n",
		"/v1/{id}/of/{name}":       "/v1/a%2Fb%20c%25%C3%A9%3F%23/of/n",
		"/v1/{inner.owner}/orders": "/v1/ada/orders",
		"/v1/{padding}/x":          "/v1//x",
	} {
		l, err := newLocation(md, template)
		if err != nil || locationOf(t, l, m) != want {
			t.Errorf("%s: %v, %v", template, locationOf(t, l, m), err)
		}
	}
	for _, template := range []string{"/v1/{nope}", "/v1/{id", "/v1/{index}", "/v1/{scopes}", "/v1/{inner}", "/v1/{}"} {
		if _, err := newLocation(md, template); err == nil {
			t.Errorf("%s was taken", template)
		}
	}
}

// TestExplainIsStable: the same body has the same answer, in order.
func TestExplainIsStable(t *testing.T) {
	body := []byte(`{"zeta":1,"alpha":2,"kinds":{"m_string":{"b":1,"a":2},"fInt32":"x","fBool":3}}`)
	want := []string{"alpha", "kinds.f_bool", "kinds.f_int32", "kinds.m_string[a]", "kinds.m_string[b]", "zeta"}
	for range 20 {
		bad := explained(t, bindingOf(t, "POST"), "", body)
		var got []string
		for _, v := range bad {
			got = append(got, v.GetField())
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("got %v", got)
		}
	}
}

// TestExplainIsBounded: neither a body that is wrong everywhere nor a long one
// that is wrong at its end costs much.
func TestExplainIsBounded(t *testing.T) {
	b := bindingOf(t, "POST")
	if bad := explained(t, b, "", []byte(`{"kinds":{"rInt32":[`+strings.Repeat(`"x",`, 200_000)+`"x"]}}`)); len(bad) != maxFindings {
		t.Errorf("%d findings", len(bad))
	}
	bad := explained(t, b, "", []byte(`{"kinds":{"rInt32":[`+strings.Repeat(`1,`, 400_000)+`"x"]}}`))
	if len(bad) != 1 || !strings.Contains(bad[0].GetDescription(), "after its first 10000") {
		t.Errorf("%v", bad)
	}
	deep := strings.Repeat(`{"inner":`, 70)
	if bad := explained(t, b, "", []byte(`{"inner":`+deep+`{}`+strings.Repeat("}", 71))); len(bad) != 1 || bad[0].GetDescription() != "is nested too deeply" {
		t.Errorf("%v", bad)
	}
}

func explained(t testing.TB, b *Binding, query string, body []byte) []*errdetails.BadRequest_FieldViolation {
	t.Helper()
	r := httptest.NewRequest(b.Verb, "/", nil)
	r.URL.RawQuery = query
	x := asking(b, r)
	x.body = body
	st := status.Convert(x.explain())
	if st.Code() != codes.InvalidArgument || len(st.Details()) != 1 {
		t.Fatalf("%v", st)
	}
	return st.Details()[0].(*errdetails.BadRequest).GetFieldViolations()
}

// TestProblems holds what clients parse.
func TestProblems(t *testing.T) {
	var out bytes.Buffer
	for _, st := range []*status.Status{
		status.Convert(unsupportedMedia()), status.Convert(brokenMedia()), status.Convert(jsonTooDeep(64)),
	} {
		b, err := httpedge.NewProblem(st, "id-1").JSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Indent(&out, b, "", "  "); err != nil {
			t.Fatal(err)
		}
		out.WriteByte('\n')
	}
	file := filepath.Join("testdata", "problems.golden")
	if *update {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, out.Bytes()) {
		t.Errorf("differs from %s (go test ./gateway/rest -run TestProblems -update writes it anew):\n%s", file, out.Bytes())
	}
}
