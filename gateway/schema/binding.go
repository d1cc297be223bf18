package schema

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/route"
	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// WholeBody is the Body of a binding whose request body is the whole request message.
const WholeBody = "*"

// Binding is one HTTP binding of a method: a route (google.api.HttpRule).
type Binding struct {
	Method *policy.Method
	// Verb is the HTTP method, in upper case; also of a custom pattern.
	Verb     string
	Template route.Template
	// Variables are those of the template, in its order.
	Variables []Variable
	// Body is as the option says: empty for no body, WholeBody, or the name of a field of
	// the request.
	Body string
	// BodyField is that field; nil without a body and for the whole message.
	BodyField protoreflect.FieldDescriptor
	// ResponseField is the field that the response body is; nil means the whole response
	// message.
	ResponseField protoreflect.FieldDescriptor
	// Request reads the JSON of a body that is a message; nil where the body is none, for
	// there is no body or the field is a scalar, a list or a map.
	Request *transcode.Plan
	// Response writes the JSON of the response, or of ResponseField.
	Response *transcode.Plan
}

// Variable is a variable of a path template.
type Variable struct {
	// Path is the field path in the request message, such as user.user_id.
	Path string
	// Fields are those on the path, one at least: all but the last are singular messages.
	Fields []protoreflect.FieldDescriptor
}

// bindings reads the option and its additional bindings.
func (c *Catalogue) bindings(m *Method, rule *annotations.HttpRule) ([]*Binding, error) {
	if rule == nil {
		return nil, nil
	}
	var out []*Binding
	for i, r := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
		if i > 0 && len(r.GetAdditionalBindings()) > 0 {
			return nil, errors.New("an additional binding has no additional_bindings of its own (google/api/http.proto)")
		}
		b, err := c.binding(m, r)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func (c *Catalogue) binding(m *Method, r *annotations.HttpRule) (*Binding, error) {
	verb, path := pattern(r)
	if verb == "" {
		return nil, errors.New("the option names no HTTP method")
	}
	t, err := route.Parse(path)
	if err != nil {
		return nil, err
	}
	b := &Binding{Method: m.Method, Verb: verb, Template: t, Body: r.GetBody(), Response: m.Output}
	for _, name := range t.Variables() {
		v, err := newVariable(m.Descriptor.Input(), name)
		if err != nil {
			return nil, err
		}
		b.Variables = append(b.Variables, v)
	}
	if err := c.bindBody(b, m); err != nil {
		return nil, err
	}
	name := protoreflect.Name(r.GetResponseBody())
	if name == "" {
		return b, nil
	}
	out := m.Descriptor.Output()
	if b.ResponseField = out.Fields().ByName(name); b.ResponseField == nil {
		return nil, fmt.Errorf("response_body: %s has no field %q", out.FullName(), name)
	}
	if b.Response, err = m.Output.Field(name); err != nil {
		return nil, fmt.Errorf("response_body: %w", err)
	}
	return b, nil
}

func (c *Catalogue) bindBody(b *Binding, m *Method) (err error) {
	switch b.Body {
	case "":
		return nil
	case WholeBody:
		b.Request = m.Input
		return nil
	}
	in := m.Descriptor.Input()
	if b.BodyField = in.Fields().ByName(protoreflect.Name(b.Body)); b.BodyField == nil {
		return fmt.Errorf("body: %s has no field %q", in.FullName(), b.Body)
	}
	if b.BodyField.Message() == nil || b.BodyField.Cardinality() == protoreflect.Repeated {
		return nil
	}
	if b.Request, err = c.plans.Plan(b.BodyField.Message()); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	return nil
}

// pattern is the HTTP method and the path template; both are empty where the option has
// neither.
func pattern(r *annotations.HttpRule) (verb, path string) {
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

func newVariable(in protoreflect.MessageDescriptor, path string) (Variable, error) {
	v := Variable{Path: path}
	at := in
	for name := range strings.SplitSeq(path, ".") {
		if at == nil {
			return v, fmt.Errorf("the path variable %q leads through %s, which is no message", path, v.Fields[len(v.Fields)-1].FullName())
		}
		fd := at.Fields().ByName(protoreflect.Name(name))
		if fd == nil {
			return v, fmt.Errorf("the path variable %q: %s has no field %q", path, at.FullName(), name)
		}
		v.Fields = append(v.Fields, fd)
		if at = fd.Message(); fd.Cardinality() == protoreflect.Repeated {
			at = nil // A list or a map is no message to go on in.
		}
	}
	return v, nil
}
