package request_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/rest/request"
	"github.com/sluice-gateway/sluice/gateway/schema"
)

// TestLegalAnnotations: every binding of a service that has what the generator refuses
// compiles, and builds a request.
func TestLegalAnnotations(t *testing.T) {
	service := testv1.File_sluice_test_v1_bindings_proto.Services().ByName("BindingService")
	n := 0
	for _, b := range bindingsOf(t, service) {
		mt, err := protoregistry.GlobalTypes.FindMessageByName(b.Method.Descriptor.Input().FullName())
		if err != nil {
			t.Fatal(err)
		}
		n++
		path := b.Template.String()
		s := serve(t, mt.New().Interface(), b.Verb+" "+path, b.Body, request.Options{})
		for _, v := range s.names {
			path = strings.Replace(path, "{"+v+"}", sample(v), 1)
		}
		if got, bad := s.message(t, path, ""); got == nil && !strings.HasSuffix(bad, "is required") {
			t.Errorf("%s %s: %s", b.Verb, path, bad)
		}
	}
	if n < 100 {
		t.Errorf("%d bindings", n)
	}
}

// bindingsOf are the bindings of a service, as the gateway reads them.
func bindingsOf(tb testing.TB, service protoreflect.ServiceDescriptor) (out []*schema.Binding) {
	tb.Helper()
	c, err := schema.New([]protoreflect.ServiceDescriptor{service}, schema.Options{
		Defaults: policy.Defaults{Deadline: time.Minute, StreamIdle: time.Minute, StreamMaxAge: time.Minute, MaxRequestBytes: 1 << 20},
	})
	if err != nil {
		tb.Fatal(err)
	}
	for _, m := range c.Methods() {
		out = append(out, m.Bindings...)
	}
	return out
}

// sample is a value that a variable's field can hold, by its name.
func sample(variable string) string {
	switch {
	case strings.HasSuffix(variable, "timestamp"):
		return "2026-01-02T03:04:05Z"
	case strings.HasSuffix(variable, "duration"):
		return "1.5s"
	case strings.HasSuffix(variable, "bool"):
		return "true"
	case strings.HasSuffix(variable, "enum"):
		return "COLOR_RED"
	case strings.HasSuffix(variable, "bytes"):
		return "eA=="
	case strings.HasSuffix(variable, "mask"):
		return "a,b"
	case strings.HasSuffix(variable, "null"):
		return "NULL_VALUE"
	}
	return "1"
}
