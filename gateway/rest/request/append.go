package request

import (
	"errors"
	"strconv"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluice-gateway/sluice/gateway/route"
	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// Parts are what a request is made of.
type Parts struct {
	// Body is whole; of a client's stream, one of its values. It may be empty where it is
	// JSON.
	Body []byte
	// ContentType goes into a google.api.HttpBody.
	ContentType string
	Params      route.Params
	Query       []Parameter
}

// FieldError says what is wrong with a field of the request.
type FieldError struct{ Field, Reason string }

// Errors are what is wrong with a request, at most 20.
type Errors []FieldError

func (e Errors) Error() string {
	text := "the request is not valid"
	for _, f := range e {
		text += "; " + f.Field + " " + f.Reason
	}
	return text
}

// maxErrors bounds the answer to a request that is wrong everywhere.
const maxErrors = 20

// builder is the memory of one Append.
type builder struct {
	given given
	path  []transcode.Field
	bad   Errors
}

var builders = sync.Pool{New: func() any { return &builder{} }}

func (b *builder) refuse(field, reason string) {
	if len(b.bad) < maxErrors {
		b.bad = append(b.bad, FieldError{field, reason})
	}
}

// Append appends the wire form of a request to dst. Its error is Errors; dst is then
// returned as it was. It keeps nothing of the parts.
func (p *Program) Append(dst []byte, in *Parts) ([]byte, error) {
	b, _ := builders.Get().(*builder)
	out := p.build(b, dst, in)
	bad := b.bad
	clear(b.given.parts) // They hold text of the request.
	b.given.parts, b.bad = b.given.parts[:0], nil
	builders.Put(b)
	if len(bad) > 0 {
		return dst, bad
	}
	return out, nil
}

func (p *Program) build(b *builder, dst []byte, in *Parts) []byte {
	start := len(dst)
	dst = p.appendBody(b, dst, in)
	p.compare(b, dst[start:])
	dst = p.appendPath(b, dst, in.Params)
	dst = p.appendQuery(b, dst, in)
	if len(b.bad) > 0 {
		return dst
	}
	dst = p.appendMask(b, dst, in.Body)
	if p.requires {
		var bad *transcode.Error
		if err := p.plan.CheckRequest(dst[start:]); errors.As(err, &bad) {
			b.refuse(bad.Field, bad.Reason)
		}
	}
	return dst
}

func (p *Program) appendBody(b *builder, dst []byte, in *Parts) []byte {
	switch {
	case p.body == bodyRaw:
		return p.appendRaw(dst, in)
	case p.body == bodyNone:
		return dst
	case len(in.Body) == 0:
		return append(dst, p.noBody...)
	}
	out, err := p.bodyPlan.AppendRequest(dst, in.Body, p.patch)
	if err == nil {
		return out
	}
	for _, e := range p.bodyPlan.RequestErrors(in.Body, p.patch, maxErrors) {
		field := e.Field
		if field == "" || e.IsSyntax() {
			field = "body"
		}
		b.refuse(field, e.Reason+", at "+Position(e))
	}
	return dst
}

// Position is where the reader of a body stopped, in a client's words.
func Position(e *transcode.Error) string {
	return "line " + strconv.Itoa(e.Line) + ", column " + strconv.Itoa(e.Column)
}

// appendRaw appends a google.api.HttpBody.
func (p *Program) appendRaw(dst []byte, in *Parts) []byte {
	if p.bodyField.Exists() {
		size := 0
		if n := len(in.ContentType); n > 0 {
			size += 1 + protowire.SizeBytes(n)
		}
		if n := len(in.Body); n > 0 {
			size += 1 + protowire.SizeBytes(n)
		}
		dst = protowire.AppendTag(dst, p.bodyField.Descriptor().Number(), protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(size))
	}
	if in.ContentType != "" {
		dst = protowire.AppendString(protowire.AppendTag(dst, 1, protowire.BytesType), in.ContentType)
	}
	if len(in.Body) > 0 {
		dst = protowire.AppendBytes(protowire.AppendTag(dst, 2, protowire.BytesType), in.Body)
	}
	return dst
}

func (p *Program) appendPath(b *builder, dst []byte, params route.Params) []byte {
	b.given.parts = append(b.given.parts, p.given...)
	for i := range p.variables {
		v := &p.variables[i]
		_, value := params.At(i)
		out, err := p.plan.AppendText(dst, v.fields, "", value)
		if err != nil {
			b.refuseText(v.name, err)
		}
		dst = out
	}
	return dst
}

func (b *builder) refuseText(name string, err error) {
	var bad *transcode.Error
	if errors.As(err, &bad) {
		b.refuse(name, bad.Reason)
	}
}

func (p *Program) appendQuery(b *builder, dst []byte, in *Parts) []byte {
	if p.bodyField.Exists() && p.body == bodyJSON && len(in.Body)+len(p.noBody) == 0 {
		b.given.parts[0].absent = true
	}
	for i := range in.Query {
		q := &in.Query[i]
		dst = p.appendParameter(b, dst, q.Key, q.Value)
	}
	return dst
}

func (p *Program) appendParameter(b *builder, dst []byte, key, value string) []byte {
	path, entry, reason := b.path[:0], "", reasonNotQuery
	if p.body == bodyNone || p.bodyField.Exists() {
		path, entry, reason = p.resolve(path, key)
		b.path = path
	}
	if reason != "" {
		switch {
		case p.ignored.has(key):
		case key == "":
			b.refuse("query", reason)
		default:
			b.refuse(key, reason)
		}
		return dst
	}
	if reason = valueless(path[len(path)-1], key); reason != "" {
		b.refuse(key, reason)
		return dst
	}
	if bad := b.given.add(path, sameKey(path[len(path)-1], entry), key, fromQuery); bad.Reason != "" {
		b.refuse(bad.Field, bad.Reason)
		return dst
	}
	out, err := p.plan.AppendText(dst, path, entry, value)
	if err != nil {
		b.refuseText(key, err)
	}
	return out
}

// appendMask names what the body of a PATCH names, where the query has no mask.
func (p *Program) appendMask(b *builder, dst, body []byte) []byte {
	if !p.mask.Exists() {
		return dst
	}
	if at, _ := b.given.find(top, p.mask, ""); at >= 0 {
		return dst
	}
	var paths []string
	if len(body) > 0 {
		paths = p.bodyPlan.JSONPaths(body)
	}
	size := 0
	for _, path := range paths {
		size += 1 + protowire.SizeBytes(len(path))
	}
	dst = protowire.AppendTag(dst, p.mask.Descriptor().Number(), protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(size))
	for _, path := range paths {
		dst = protowire.AppendString(protowire.AppendTag(dst, 1, protowire.BytesType), path)
	}
	return dst
}
