package route

import (
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Binding is the HTTP method, in upper case, and the path of one binding of an RPC.
type Binding struct {
	Verb     string
	Template Template
}

// Bindings are those of an RPC's google.api.http option, additional ones included; none
// where it has no option.
func Bindings(m protoreflect.MethodDescriptor) ([]Binding, error) {
	rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	if rule == nil {
		return nil, nil
	}
	var out []Binding
	for _, r := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
		verb, path := Pattern(r)
		t, err := Parse(path)
		if err != nil {
			return nil, fmt.Errorf("%s: route of %s: %w", m.ParentFile().Path(), m.FullName(), err)
		}
		out = append(out, Binding{verb, t})
	}
	return out, nil
}

// Pattern is the HTTP method, in upper case, and the path template of a binding.
func Pattern(r *annotations.HttpRule) (verb, path string) {
	switch p := r.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return "GET", p.Get
	case *annotations.HttpRule_Put:
		return "PUT", p.Put
	case *annotations.HttpRule_Post:
		return "POST", p.Post
	case *annotations.HttpRule_Delete:
		return "DELETE", p.Delete
	case *annotations.HttpRule_Patch:
		return "PATCH", p.Patch
	case *annotations.HttpRule_Custom:
		return strings.ToUpper(p.Custom.GetKind()), p.Custom.GetPath()
	}
	return "", ""
}
