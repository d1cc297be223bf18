package rest

import (
	"fmt"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// Binding is one google.api.http binding of a method, as this edge serves it: a route.
type Binding struct {
	*schema.Binding

	body bodyKind
	// taken are the top-level fields that path and body fill, so that a query
	// parameter may not.
	taken map[string]string
	// query is what is known of query parameters; it need not have them all.
	query    map[string]parameter
	location *location
	// raw says that the answer is a google.api.HttpBody: bytes that came from
	// someone else.
	raw bool
	// answer writes the JSON of the answer from wire bytes; nil where the answer is a
	// google.api.HttpBody, which is parsed.
	answer *transcode.Plan
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

// newBinding works out what no request need of a binding.
func newBinding(of *schema.Binding) (*Binding, error) {
	m := of.Method
	b := &Binding{Binding: of, body: bodyOf(of), taken: map[string]string{}, raw: answersRaw(of)}
	if of.BodyField != nil {
		b.taken[of.Body] = "body"
	}
	for _, v := range of.Variables {
		b.taken[v.Path] = "path"
	}
	if m.Rule.Location != "" {
		l, err := newLocation(m.Descriptor.Output(), m.Rule.Location)
		if err != nil {
			return nil, fmt.Errorf("%s: route of %s: success.location: %w", m.Descriptor.ParentFile().Path(), m.Descriptor.FullName(), err)
		}
		b.location = l
	}
	if !b.raw {
		b.answer = of.Response
	}
	if b.body == bodyJSON || b.body == bodyStream {
		b.input = of.Request
	}
	b.masks, b.query = newFieldMasks(b), b.parameters()
	return b, nil
}

func bodyOf(b *schema.Binding) bodyKind {
	msg := b.Method.Descriptor.Input()
	if b.BodyField != nil {
		msg = b.BodyField.Message()
	}
	switch {
	case b.Body == "":
		return bodyNone
	case b.Method.Descriptor.IsStreamingClient():
		return bodyStream
	case msg != nil && msg.FullName() == httpBodyName:
		return bodyRaw
	}
	return bodyJSON
}
