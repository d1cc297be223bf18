package request_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sluice-gateway/sluice/gateway/rest/request"
	"github.com/sluice-gateway/sluice/gateway/route"
	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// plans are those of all tests here.
var plans = transcode.New(transcode.Options{Types: protoregistry.GlobalTypes})

// binding is one of a method that takes a message: "PATCH /x/{id}", and its body.
func binding(tb testing.TB, in proto.Message, pattern, body string) request.Binding {
	tb.Helper()
	verb, path, _ := strings.Cut(pattern, " ")
	t, err := route.Parse(path)
	if err != nil {
		tb.Fatal(err)
	}
	md := in.ProtoReflect().Descriptor()
	p, err := plans.Plan(md)
	if err != nil {
		tb.Fatal(err)
	}
	return request.Binding{Input: md, Plan: p, Verb: verb, Template: t, Body: body}
}

// served is a binding with what a router and an edge do before a Program is asked.
type served struct {
	*request.Program
	index route.Index[bool]
	verb  string
	names []string // of the path's variables
	like  proto.Message
}

func serve(tb testing.TB, in proto.Message, pattern, body string, o request.Options) *served {
	tb.Helper()
	b := binding(tb, in, pattern, body)
	p, err := request.Compile(b, o)
	if err != nil {
		tb.Fatal(err)
	}
	s := &served{Program: p, verb: b.Verb, names: b.Template.Variables(), like: in}
	if err := s.index.Add(b.Verb, b.Template, true); err != nil {
		tb.Fatal(err)
	}
	return s
}

// bytes builds the request of a target and a body.
func (s *served) bytes(tb testing.TB, target, body string) ([]byte, error) {
	tb.Helper()
	path, query, _ := strings.Cut(target, "?")
	parts, err := s.parts(path, query, body)
	if err != nil {
		tb.Fatal(err)
	}
	return s.Append([]byte("before"), parts)
}

func (s *served) parts(path, query, body string) (*request.Parts, error) {
	_, params, ok := s.index.Lookup(s.verb, path)
	if !ok {
		return nil, fmt.Errorf("no route for %s", path)
	}
	q, err := request.ParseQuery(nil, query)
	return &request.Parts{Body: []byte(body), ContentType: "text/plain", Params: params, Query: q}, err
}

// message is the request as a service reads it, or what is wrong with it, a line each.
func (s *served) message(tb testing.TB, target, body string) (proto.Message, string) {
	tb.Helper()
	wire, err := s.bytes(tb, target, body)
	rest, ok := strings.CutPrefix(string(wire), "before")
	if !ok {
		tb.Fatalf("%s: what was in dst is gone: %q", target, wire)
	}
	if err != nil {
		var bad request.Errors
		if !errors.As(err, &bad) || rest != "" || len(bad) == 0 {
			tb.Fatalf("%s: %v, and %x", target, err, rest)
		}
		return nil, lines(bad)
	}
	m := s.like.ProtoReflect().New().Interface()
	if err := proto.Unmarshal([]byte(rest), m); err != nil {
		tb.Fatalf("%s %s: %x: %v", target, body, rest, err)
	}
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		tb.Fatalf("%s %s: %x has unknown fields", target, body, rest)
	}
	return m, ""
}

func lines(bad request.Errors) string {
	var out []string
	for _, b := range bad {
		out = append(out, b.Field+": "+b.Reason)
	}
	return strings.Join(out, "\n")
}

func fields(md protoreflect.MessageDescriptor) []protoreflect.FieldDescriptor {
	var out []protoreflect.FieldDescriptor
	for i := range md.Fields().Len() {
		out = append(out, md.Fields().Get(i))
	}
	return out
}
