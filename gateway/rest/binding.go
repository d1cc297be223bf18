package rest

import (
	"fmt"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/route"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// Binding is one google.api.http binding of a method: a route.
type Binding struct {
	Method   *policy.Method
	Verb     string
	Template route.Template

	// body says what the request body is; bodyField is the field it fills, nil
	// where the body is the whole message.
	body      bodyKind
	bodyField protoreflect.FieldDescriptor
	// taken are the top-level fields that path and body fill, so that a query
	// parameter may not.
	taken map[string]string
	// query is what is known of query parameters; it need not have them all.
	query    map[string]parameter
	location *location
	// raw says that the answer is a google.api.HttpBody: bytes that came from
	// someone else.
	raw bool
	// answer writes the JSON of the answer, or of its field responseBody, from wire
	// bytes; nil where the answer is a google.api.HttpBody, which is parsed.
	answer       *transcode.Plan
	responseBody protoreflect.Name
	// input reads a JSON body; nil where that is no message.
	input   *transcode.Plan
	masks   *fieldMasks // nil where none can be asked for
	keeping *keeping    // nil where no answer is kept
	series  *telemetry.Series
	handler runtime.HandlerFunc
}

type bodyKind int

const (
	bodyNone   bodyKind = iota // what is sent is ignored
	bodyJSON                   // one JSON value
	bodyRaw                    // google.api.HttpBody: any bytes
	bodyStream                 // JSON values one after another
)

const httpBodyName = "google.api.HttpBody"

// bindings lists the bindings of a method, in the order in which its generated
// handlers register.
func bindings(m *policy.Method) ([]*Binding, error) {
	if !proto.HasExtension(m.Descriptor.Options(), annotations.E_Http) {
		return nil, nil
	}
	rule := proto.GetExtension(m.Descriptor.Options(), annotations.E_Http).(*annotations.HttpRule)
	var out []*Binding
	for _, r := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
		b, err := newBinding(m, r)
		if err != nil {
			return nil, fmt.Errorf("%s: route of %s: %w", m.Descriptor.ParentFile().Path(), m.Descriptor.FullName(), err)
		}
		out = append(out, b)
	}
	return out, nil
}

func newBinding(m *policy.Method, r *annotations.HttpRule) (*Binding, error) {
	verb, path := route.Pattern(r)
	t, err := route.Parse(path)
	if err != nil {
		return nil, err
	}
	b := &Binding{Method: m, Verb: verb, Template: t, taken: map[string]string{}, raw: answersRaw(m.Descriptor.Output(), r.GetResponseBody()),
		responseBody: protoreflect.Name(r.GetResponseBody())}
	if err := b.fillBody(r.GetBody()); err != nil {
		return nil, err
	}
	for _, v := range t.Variables() {
		b.taken[v] = "path"
	}
	if m.Rule.Location != "" {
		if b.location, err = newLocation(m.Descriptor.Output(), m.Rule.Location); err != nil {
			return nil, fmt.Errorf("success.location: %w", err)
		}
	}
	return b, nil
}

func (b *Binding) fillBody(body string) error {
	in := b.Method.Descriptor.Input()
	msg := in
	switch body {
	case "":
		return nil
	case "*":
	default:
		b.bodyField = in.Fields().ByName(protoreflect.Name(body))
		if b.bodyField == nil {
			return fmt.Errorf("body: %s has no field %q", in.FullName(), body)
		}
		b.taken[body] = "body"
		msg = b.bodyField.Message()
	}
	switch {
	case b.Method.Descriptor.IsStreamingClient():
		b.body = bodyStream
	case msg != nil && msg.FullName() == httpBodyName:
		b.body = bodyRaw
	default:
		b.body = bodyJSON
	}
	return nil
}

// compile works out what no request need: the plans of the binding's messages, and
// what may stand in its query.
func (b *Binding) compile(plans *transcode.Set, in inputs) error {
	if !b.raw {
		p, err := plans.Plan(b.Method.Descriptor.Output())
		if err == nil && b.responseBody != "" {
			p, err = p.Field(b.responseBody)
		}
		if err != nil {
			return fmt.Errorf("answer of %s: %w", b.Method.Descriptor.FullName(), err)
		}
		b.answer = p
	}
	b.masks, b.query = newFieldMasks(b), b.parameters()
	md := b.Method.Descriptor.Input()
	if b.bodyField != nil {
		if md = b.bodyField.Message(); b.bodyField.Cardinality() == protoreflect.Repeated {
			md = nil
		}
	}
	if (b.body != bodyJSON && b.body != bodyStream) || md == nil {
		return nil
	}
	p, err := plans.Plan(md)
	if err != nil {
		return fmt.Errorf("body of %s: %w", b.Method.Descriptor.FullName(), err)
	}
	b.input, in[md.FullName()] = p, p
	return nil
}
