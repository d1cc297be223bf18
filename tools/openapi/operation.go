package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	jsonType   = "application/json"
	ndjsonType = "application/x-ndjson"
	// defaultBodyBytes is what a rule's max_request_bytes of 0 means.
	defaultBodyBytes = 1 << 20
)

func isRawBody(md protoreflect.MessageDescriptor) bool {
	return md.FullName() == "google.api.HttpBody"
}

func isEmpty(md protoreflect.MessageDescriptor) bool {
	return md.FullName() == "google.protobuf.Empty"
}

// completeParameters names path parameters as the document's path does, adds
// the fields' limits, and adds the Idempotency-Key header.
func completeParameters(op *operation, b *binding) error {
	for _, p := range op.Parameters {
		fd, err := fieldAt(b.method.Input(), p.Name)
		if err != nil {
			return err
		}
		if err := constrain(p.Schema, fd); err != nil {
			return err
		}
		if p.In == "path" {
			p.Name = lastName(p.Name)
		}
		if fd.Message() != nil && fd.Message().FullName() == "google.protobuf.FieldMask" {
			p.Description = strings.TrimSpace(p.Description + " Names are separated by commas. " +
				"Without this parameter they are taken from the body's keys.")
		}
	}
	fd := b.rule.IdempotencyKey
	if fd == nil {
		return nil
	}
	key := &parameter{
		Name: "Idempotency-Key",
		In:   "header",
		Description: "Key of this request: the same request under the same key answers the first answer again, " +
			"another request under it is refused with 409. The parameter `" + fd.JSONName() + "` says the same.",
		Schema: schema{"type": "string"},
	}
	op.Parameters = append(op.Parameters, key)
	return constrain(key.Schema, fd)
}

// completeBody gives raw bodies their media types, and JSON bodies the limits of
// their fields. A PATCH takes its own schema: nothing is required in a change,
// and null clears.
func completeBody(op *operation, b *binding, media []string, schemas map[string]schema) error {
	body := op.RequestBody
	if body == nil {
		return nil
	}
	limit := b.rule.MaxRequestBytes
	body.Description = fmt.Sprintf("At most %d bytes, unless the gateway is configured otherwise.", limit)
	msg, err := bodyMessage(b)
	if err != nil {
		return err
	}
	if isRawBody(msg) {
		body.Content = binary(media, "*/*", limit)
		return nil
	}
	content := body.Content[jsonType]
	if content == nil {
		return fmt.Errorf("the plugin wrote no %s body", jsonType)
	}
	if _, isRef := content.Schema["$ref"]; !isRef {
		if err := constrainProperties(content.Schema, msg); err != nil {
			return err
		}
		// An empty body is an empty message.
		body.Required = content.Schema["required"] != nil
	}
	if b.verb == "patch" {
		name := string(msg.FullName())
		schemas[name+".Patch"] = patchSchema(schemas[name], msg)
		content.Schema = schemaRef(name + ".Patch")
	}
	return nil
}

func bodyMessage(b *binding) (protoreflect.MessageDescriptor, error) {
	if b.body == "*" {
		return b.method.Input(), nil
	}
	fd, err := fieldAt(b.method.Input(), b.body)
	if err != nil {
		return nil, err
	}
	if fd.Message() == nil || fd.IsList() || fd.IsMap() {
		return nil, fmt.Errorf("body %q is not a message", b.body)
	}
	return fd.Message(), nil
}

// patchSchema is a message's schema as a change of it (RFC 7396): no field is
// required, null clears one, and what only the service writes is left out.
func patchSchema(full schema, msg protoreflect.MessageDescriptor) schema {
	props := schema{}
	for name, p := range properties(full) {
		if p["readOnly"] == true {
			continue
		}
		p = maps.Clone(p)
		if t, ok := p["type"].(string); ok && !isIdentifier(msg.Fields().ByJSONName(name)) {
			p["type"] = []any{t, "null"}
		}
		props[name] = map[string]any(p)
	}
	return schema{
		"type":        "object",
		"description": "A change of a " + string(msg.Name()) + ": only the fields that are present change, null clears one.",
		"properties":  map[string]any(props),
	}
}

// isIdentifier: the field names the resource (AIP-203), and cannot be cleared.
func isIdentifier(fd protoreflect.FieldDescriptor) bool {
	behavior, _ := proto.GetExtension(fd.Options(), annotations.E_FieldBehavior).([]annotations.FieldBehavior)
	return slices.Contains(behavior, annotations.FieldBehavior_IDENTIFIER)
}

// completeSuccess is the answer of a success, under its real code.
func completeSuccess(op *operation, b *binding) (map[string]*response, error) {
	plugin := op.Responses["200"]
	if plugin == nil {
		return nil, fmt.Errorf("the plugin wrote no answer 200")
	}
	code := strconv.Itoa(b.rule.SuccessCode)
	r := &response{Description: plugin.Description, Content: plugin.Content, Headers: map[string]*header{
		"X-Request-ID": {Ref: headerPrefix + "X-Request-ID"},
	}}
	if b.rule.LimitClass != "" {
		for _, name := range limitHeaders {
			r.Headers[name] = &header{Ref: headerPrefix + name}
		}
	}
	if b.rule.Location != "" {
		r.Headers["Location"] = &header{Ref: headerPrefix + "Location"}
	}
	if b.rule.IdempotencyKey != nil {
		r.Headers["Idempotency-Replayed"] = &header{Ref: headerPrefix + "Idempotency-Replayed"}
	}
	switch out := b.method.Output(); {
	case isRawBody(out):
		r.Description = "The content itself."
		r.Content = binary(b.rule.MediaTypes, "*/*", 0)
	case code == "204":
		if !isEmpty(out) {
			return nil, fmt.Errorf("204 has no body, but %s would be one", out.FullName())
		}
		r.Description, r.Content = "Done; there is nothing to answer.", nil
	case b.method.IsStreamingServer():
		r.Description = "A stream, one JSON value a line."
		r.Content = map[string]*mediaType{ndjsonType: {Schema: streamLine(plugin.Content[jsonType].Schema)}}
	}
	return map[string]*response{code: r}, nil
}

// streamLine is the schema of one line of a stream: OpenAPI 3.1 has no way to
// say that there are many.
func streamLine(message schema) schema {
	return schema{
		"description": "One line of the stream.",
		"oneOf": []any{
			schema{"type": "object", "required": []any{"result"}, "properties": schema{"result": message}},
			schema{"type": "object", "required": []any{"error"}, "properties": schema{"error": schemaRef(problemSchema)}},
		},
	}
}

// binary is a raw body under each media type; limit is in bytes, 0 without one.
func binary(media []string, fallback string, limit int64) map[string]*mediaType {
	if len(media) == 0 {
		media = []string{fallback}
	}
	out := map[string]*mediaType{}
	for _, m := range slices.Sorted(slices.Values(media)) {
		s := schema{"type": "string", "format": "binary"}
		if limit > 0 {
			s["maxLength"] = limit
		}
		out[m] = &mediaType{Schema: s}
	}
	return out
}
