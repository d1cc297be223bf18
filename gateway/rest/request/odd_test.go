package request_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sluice-gateway/sluice/gateway/rest/request"
)

// TestFalseNames: a descriptor that arrives at run time may have a message with the name of
// a well-known type that is something else. No request makes anybody read it as that type.
func TestFalseNames(t *testing.T) {
	message := descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum()
	field := func(name string, n int32, typ string) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{Name: proto.String(name), Number: proto.Int32(n), Type: message, TypeName: proto.String(typ), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
	}
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("odd.proto"), Syntax: proto.String("proto3"), Package: proto.String("google.protobuf"),
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: proto.String("Any")}, {Name: proto.String("Duration")}, {Name: proto.String("StringValue")}, {Name: proto.String("Struct")},
			{Name: proto.String("Request"), Field: []*descriptorpb.FieldDescriptorProto{
				field("any", 1, ".google.protobuf.Any"), field("duration", 2, ".google.protobuf.Duration"),
				field("text", 3, ".google.protobuf.StringValue"), field("object", 4, ".google.protobuf.Struct"),
			}},
		},
	}, &protoregistry.Files{})
	if err != nil {
		t.Fatal(err)
	}
	in := dynamicpb.NewMessage(fd.Messages().ByName("Request"))
	s := serve(t, in, "POST /", "any", request.Options{})
	got, bad := s.message(t, "/?duration=1s&text=x&object={}", `{"@type":"google.protobuf.Empty"}`)
	if got != nil || strings.Count(bad, "is of a type that") != 4 {
		t.Errorf("%v\n%s", got, bad)
	}
	for _, name := range []string{"any", "duration", "text", "object"} {
		if _, err := request.Compile(binding(t, in, "GET /{"+name+"}", ""), request.Options{}); err == nil {
			t.Errorf("%s is taken from a path", name)
		}
	}
}
