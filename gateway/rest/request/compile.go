package request

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/route"
	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// Binding is what a Program is compiled from: one google.api.http binding of a method.
type Binding struct {
	// Input is the request message, and Plan its plan.
	Input    protoreflect.MessageDescriptor
	Plan     *transcode.Plan
	Verb     string // in upper case
	Template route.Template
	// Body is HttpRule.body: nothing, *, or a field of the request.
	Body string
	// ClientStreams says that the client sends many messages: each is a JSON value of the
	// body, and path and query are part of each.
	ClientStreams bool
}

// Options of a Program.
type Options struct {
	// IgnoreQuery names query parameters that are ignored where no field has their name;
	// with * at its end, a name is a prefix.
	IgnoreQuery []string
	// MaxDepth bounds the messages that a query parameter leads through; 0 means 64.
	MaxDepth int
}

// Program builds the requests of one binding. It is safe for concurrent use.
type Program struct {
	plan *transcode.Plan
	body bodyKind
	// bodyPlan reads a JSON body; bodyField is the field it fills, none where that is the
	// whole request.
	bodyPlan  *transcode.Plan
	bodyField transcode.Field
	// noBody is what a request without a body says of that field: a message is there, and
	// empty, as generated handlers have it; anything else is not.
	noBody []byte
	patch  bool // null in the body clears a field
	// mask is the field that a PATCH fills with the names in its body (AIP-134), if any.
	mask      transcode.Field
	variables []variable // in the template's order
	// given is what body and path fill in every request.
	given    []part
	watches  []watch
	requires bool // there are required fields
	ignored  ignored
	depth    int
}

type bodyKind uint8

const (
	bodyNone bodyKind = iota
	bodyJSON
	bodyRaw // google.api.HttpBody: any bytes
)

// variable is a variable of the path and the field that it leads to.
type variable struct {
	name   string
	fields []transcode.Field
}

const (
	httpBodyName    = "google.api.HttpBody"
	fieldMaskName   = "google.protobuf.FieldMask"
	defaultMaxDepth = 64
)

// Compile makes the program of a binding. Its error says why the binding cannot be served.
func Compile(b Binding, o Options) (*Program, error) {
	p := &Program{plan: b.Plan, patch: b.Verb == "PATCH", requires: b.Plan.Requires(), depth: o.MaxDepth}
	if p.depth == 0 {
		p.depth = defaultMaxDepth
	}
	var err error
	if p.ignored, err = newIgnored(o.IgnoreQuery); err != nil {
		return nil, err
	}
	if err := p.compileBody(b); err != nil {
		return nil, err
	}
	for _, name := range b.Template.Variables() {
		if err := p.compileVariable(b, name); err != nil {
			return nil, fmt.Errorf("path variable %s: %w", name, err)
		}
	}
	p.compileMask(b)
	return p, nil
}

func (p *Program) compileBody(b Binding) (err error) {
	md := b.Input
	switch b.Body {
	case "":
		if b.ClientStreams {
			return errors.New("the client streams messages, and without a `body` the binding has no place for them")
		}
		return nil
	case "*":
		p.bodyPlan = p.plan
	default:
		fd := b.Input.Fields().ByName(protoreflect.Name(b.Body))
		if fd == nil {
			return fmt.Errorf("body: %s has no field %q", b.Input.FullName(), b.Body)
		}
		p.bodyField = p.plan.Named(fd.TextName())
		if p.bodyPlan, err = p.plan.Field(fd.Name()); err != nil {
			return fmt.Errorf("body: %w", err)
		}
		if md = nil; p.bodyField.IsMessage() {
			md = fd.Message()
		}
		if md != nil && md.FullName().Parent() != "google.protobuf" {
			p.noBody = emptyField(fd)
		}
		p.given = append(p.given, part{parent: top, field: p.bodyField, by: b.Body, from: fromBody, whole: true})
	}
	p.body = bodyJSON
	if md != nil && md.FullName() == httpBodyName && !b.ClientStreams {
		p.body = bodyRaw
	}
	return nil
}

// emptyField is a field that is a message without fields.
func emptyField(fd protoreflect.FieldDescriptor) []byte {
	if fd.Kind() == protoreflect.GroupKind {
		return protowire.AppendTag(protowire.AppendTag(nil, fd.Number(), protowire.StartGroupType), fd.Number(), protowire.EndGroupType)
	}
	return append(protowire.AppendTag(nil, fd.Number(), protowire.BytesType), 0)
}

func (p *Program) compileVariable(b Binding, name string) error {
	v := variable{name: name}
	md := b.Input
	for segment := range strings.SplitSeq(name, ".") {
		if len(v.fields) > 0 && !v.fields[len(v.fields)-1].IsMessage() {
			return fmt.Errorf("%s is not a message", v.fields[len(v.fields)-1].Name())
		}
		fd := md.Fields().ByName(protoreflect.Name(segment))
		if fd == nil {
			return fmt.Errorf("%s has no field %q", md.FullName(), segment)
		}
		f := p.plan.Named(fd.TextName())
		if n := len(v.fields); n > 0 {
			f = v.fields[n-1].Named(fd.TextName())
		}
		v.fields = append(v.fields, f)
		md = fd.Message()
	}
	last := v.fields[len(v.fields)-1]
	switch {
	case last.IsList() || last.IsMap():
		return errors.New("a field with many values cannot be given by a path")
	case last.IsMessage() && !(last.IsText() && pathMessage(last.Descriptor().Message())):
		return fmt.Errorf("a message of type %s cannot be given by a path: name one of its fields", last.Descriptor().Message().FullName())
	}
	for i := range v.fields {
		p.watch(b, v, i)
	}
	g := given{parts: p.given}
	if bad := g.add(v.fields, "", name, fromPath); bad.Reason != "" {
		return errors.New(bad.Reason)
	}
	p.given, p.variables = g.parts, append(p.variables, v)
	return nil
}

// pathMessage says whether a message can be a variable of a path: its JSON is one text.
func pathMessage(md protoreflect.MessageDescriptor) bool {
	switch md.FullName() {
	case "google.protobuf.Timestamp", "google.protobuf.Duration", fieldMaskName,
		"google.protobuf.DoubleValue", "google.protobuf.FloatValue", "google.protobuf.Int64Value", "google.protobuf.UInt64Value",
		"google.protobuf.Int32Value", "google.protobuf.UInt32Value", "google.protobuf.BoolValue", "google.protobuf.StringValue",
		"google.protobuf.BytesValue":
		return true
	}
	return false
}

// compileMask finds the field that a PATCH of one field fills with the names in its body:
// the request's only mask, as protoc-gen-grpc-gateway has it.
func (p *Program) compileMask(b Binding) {
	if !p.patch || p.body != bodyJSON || !p.bodyField.Exists() || !p.bodyField.IsMessage() || p.bodyField.IsText() {
		return
	}
	var mask protoreflect.FieldDescriptor
	for i := range b.Input.Fields().Len() {
		fd := b.Input.Fields().Get(i)
		if fd.Message() == nil || fd.Message().FullName() != fieldMaskName {
			continue
		}
		if mask != nil || fd.IsList() {
			return
		}
		mask = fd
	}
	if mask == nil {
		return
	}
	f := p.plan.Named(mask.TextName())
	if !slices.ContainsFunc(p.given, func(g part) bool { return g.parent == top && g.field == f }) {
		p.mask = f
	}
}

// ignored are the names of query parameters that mean nothing.
type ignored struct {
	names    map[string]bool
	prefixes []string
}

func newIgnored(patterns []string) (g ignored, err error) {
	g.names = map[string]bool{}
	for _, p := range patterns {
		name, isPrefix := strings.CutSuffix(p, "*")
		switch {
		case name == "" || strings.Contains(name, "*"):
			return g, fmt.Errorf("ignored query parameter %q: want a name, or the beginning of one with * behind it", p)
		case isPrefix:
			g.prefixes = append(g.prefixes, name)
		default:
			g.names[name] = true
		}
	}
	return g, nil
}

func (g *ignored) has(key string) bool {
	return g.names[key] || slices.ContainsFunc(g.prefixes, func(p string) bool { return strings.HasPrefix(key, p) })
}
