package request_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/rest/request"
	"github.com/sluice-gateway/sluice/gateway/route"
)

// TestLegalAnnotations: every binding of a service that has what the generator refuses
// compiles, and builds a request.
func TestLegalAnnotations(t *testing.T) {
	service := testv1.File_sluice_test_v1_bindings_proto.Services().ByName("BindingService")
	n := 0
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		mt, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
		if err != nil {
			t.Fatal(err)
		}
		rule := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
		for _, r := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
			n++
			verb, path := route.Pattern(r)
			s := serve(t, mt.New().Interface(), fmt.Sprint(verb, " ", path), r.GetBody(), request.Options{})
			for _, v := range s.names {
				path = strings.Replace(path, "{"+v+"}", sample(v), 1)
			}
			if got, bad := s.message(t, path, ""); got == nil && !strings.HasSuffix(bad, "is required") {
				t.Errorf("%s %s: %s", verb, path, bad)
			}
		}
	}
	if n < 100 {
		t.Errorf("%d bindings", n)
	}
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
