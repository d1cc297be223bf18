package main

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxMaskBytes is what gateway/rest takes of a mask.
const maxMaskBytes = 2048

// addFields documents the system parameter by which a GET answers with a part of
// its JSON. A request message with a field of that name keeps the parameter.
func addFields(op *operation, b *binding) {
	if b.verb != "get" || b.answer == nil {
		return
	}
	name := "fields"
	if in := b.method.Input().Fields(); in.ByName("fields") != nil || in.ByJSONName("fields") != nil {
		name = "$fields"
	}
	text := "Fields to answer with, separated by commas, with dots between levels: a partial response. " +
		"Through lists a path goes to each element; empty or `*` means all. A path that the answer does not have is 400. " +
		"The header `X-Goog-FieldMask` says the same; only one of them may be given."
	if b.method.IsStreamingServer() {
		text += " Paths begin at `result`."
	}
	s := schema{"type": "string", "maxLength": maxMaskBytes}
	if paths := somePaths(b.answer); paths != "" {
		s["examples"] = []any{paths}
	}
	op.Parameters = append(op.Parameters, &parameter{Name: name, In: "query", Description: text, Schema: s})
}

// answerOf is the message whose fields a route's answer has; nil where it is no
// message, or bytes.
func answerOf(md protoreflect.MethodDescriptor, field protoreflect.FieldDescriptor) protoreflect.MessageDescriptor {
	out := md.Output()
	if field != nil {
		if field.IsMap() {
			return nil
		}
		out = field.Message()
	}
	if out == nil || isRawBody(out) || isEmpty(out) {
		return nil
	}
	return out
}

// somePaths is an example of a mask: of two of the answer's fields, one with a
// level below where there is any.
func somePaths(md protoreflect.MessageDescriptor) string {
	var flat, below []string
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if !nests(fd) {
			flat = append(flat, fd.JSONName())
			continue
		}
		if first := md.Fields().Get(i).Message().Fields().Get(0); !nests(first) {
			below = append(below, fd.JSONName()+"."+first.JSONName())
		}
	}
	var paths []string
	if len(flat) > 0 {
		paths = append(paths, flat[0])
	}
	for _, more := range append(below, flat[min(1, len(flat)):]...) {
		if len(paths) < 2 {
			paths = append(paths, more)
		}
	}
	return strings.Join(paths, ",")
}

// nests says whether paths may lead into a field: not into maps, nor into
// messages that JSON writes as one value.
func nests(fd protoreflect.FieldDescriptor) bool {
	md := fd.Message()
	return md != nil && !fd.IsMap() && md.FullName().Parent() != "google.protobuf" && md.Fields().Len() > 0
}
