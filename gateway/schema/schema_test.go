package schema_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	_ "google.golang.org/protobuf/types/known/apipb" // Linked in, and imported by no service.

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/schema"
)

var testFile = testv1.File_sluice_test_v1_test_proto

// set is the test service's file with all it imports, as bytes: what protoc writes.
func set(t testing.TB) *descriptorpb.FileDescriptorSet {
	t.Helper()
	out, seen := &descriptorpb.FileDescriptorSet{}, map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		out.File = append(out.File, protodesc.ToFileDescriptorProto(f))
	}
	add(testFile)
	return out
}

// dynamic is the test service of a set that was parsed with a resolver.
func dynamic(t testing.TB, s *descriptorpb.FileDescriptorSet, resolver interface {
	protoregistry.ExtensionTypeResolver
}) protoreflect.ServiceDescriptor {
	t.Helper()
	raw, err := proto.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	parsed := &descriptorpb.FileDescriptorSet{}
	if err := (proto.UnmarshalOptions{Resolver: resolver}).Unmarshal(raw, parsed); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(parsed)
	if err != nil {
		t.Fatal(err)
	}
	d, err := files.FindDescriptorByName("sluice.test.v1.TestService")
	if err != nil {
		t.Fatal(err)
	}
	return d.(protoreflect.ServiceDescriptor)
}

// TestSources: it does not matter how a descriptor came to be, or what its options were
// parsed with: linked, as typed messages, as dynamic ones, not at all.
func TestSources(t *testing.T) {
	s := set(t)
	files, err := protodesc.NewFiles(s)
	if err != nil {
		t.Fatal(err)
	}
	linked := testFile.Services().ByName("TestService")
	want, err := schema.New([]protoreflect.ServiceDescriptor{linked}, schema.Options{Linked: protoregistry.GlobalTypes})
	if err != nil {
		t.Fatal(err)
	}
	for name, sd := range map[string]protoreflect.ServiceDescriptor{
		"linked resolver": dynamic(t, s, protoregistry.GlobalTypes),
		"no resolver":     dynamic(t, s, &protoregistry.Types{}),
		"own resolver":    dynamic(t, s, dynamicpb.NewTypes(files)),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := schema.New([]protoreflect.ServiceDescriptor{sd}, schema.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Services()) != 1 || len(got.Methods()) != len(want.Methods()) || len(got.Methods()) < 10 {
				t.Fatalf("%d services, %d methods", len(got.Services()), len(got.Methods()))
			}
			for i, m := range got.Methods() {
				sameMethod(t, m, want.Methods()[i])
			}
		})
	}
}

func sameMethod(t *testing.T, got, want *schema.Method) {
	t.Helper()
	if got.FullName != want.FullName || got.Rule.Who() != want.Rule.Who() || got.Rule.OwnerText() != want.Rule.OwnerText() ||
		got.Rule.ConditionsText() != want.Rule.ConditionsText() || got.Rule.Deadline != want.Rule.Deadline || len(got.Bindings) != len(want.Bindings) {
		t.Fatalf("%s: %+v, want %s: %+v", got.FullName, got.Rule, want.FullName, want.Rule)
	}
	for i, b := range got.Bindings {
		w := want.Bindings[i]
		if b.Verb != w.Verb || b.Template.String() != w.Template.String() || b.Body != w.Body || (b.Request == nil) != (w.Request == nil) ||
			len(b.Variables) != len(w.Variables) || b.Method != got.Method {
			t.Errorf("%s: %+v, want %+v", got.FullName, b, w)
		}
	}
}

// made is made.Made of one method Do, which takes and answers messages of the test
// service; edit may change its file before it is built.
func made(t testing.TB, options *descriptorpb.MethodOptions, edit func(*descriptorpb.FileDescriptorProto)) protoreflect.ServiceDescriptor {
	t.Helper()
	f := &descriptorpb.FileDescriptorProto{
		Name: proto.String("made/made.proto"), Package: proto.String("made"), Syntax: proto.String("proto3"),
		Dependency: []string{"sluice/test/v1/test.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Made"), Method: []*descriptorpb.MethodDescriptorProto{{
			Name: proto.String("Do"), InputType: proto.String(".sluice.test.v1.Kinds"), OutputType: proto.String(".sluice.test.v1.EchoResponse"), Options: options,
		}}}},
	}
	if edit != nil {
		edit(f)
	}
	fd, err := protodesc.NewFile(f, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return fd.Services().Get(0)
}

func public() *descriptorpb.MethodOptions {
	o := &descriptorpb.MethodOptions{}
	proto.SetExtension(o, policyv1.E_Method, &policyv1.MethodRule{Require: &policyv1.Require{Public: true}})
	return o
}

func bound(rule *annotations.HttpRule) *descriptorpb.MethodOptions {
	o := public()
	proto.SetExtension(o, annotations.E_Http, rule)
	return o
}

func get(path string) *annotations.HttpRule {
	return &annotations.HttpRule{Pattern: &annotations.HttpRule_Get{Get: path}}
}

func read(sd ...protoreflect.ServiceDescriptor) (*schema.Catalogue, error) {
	return schema.New(sd, schema.Options{Defaults: policy.Defaults{Deadline: time.Second}, Linked: protoregistry.GlobalTypes})
}

func TestBinding(t *testing.T) {
	rule := &annotations.HttpRule{
		Pattern: &annotations.HttpRule_Custom{Custom: &annotations.CustomHttpPattern{Kind: "purge", Path: "/a/{f_message.f_int32}/{f_string=b/*}:go"}},
		Body:    "f_message", ResponseBody: "kinds",
		AdditionalBindings: []*annotations.HttpRule{
			{Pattern: &annotations.HttpRule_Put{Put: "/b"}, Body: "*"}, {Pattern: &annotations.HttpRule_Post{Post: "/c"}, Body: "r_message"},
			{Pattern: &annotations.HttpRule_Patch{Patch: "/d"}, Body: "f_string"}, {Pattern: &annotations.HttpRule_Delete{Delete: "/e"}}, get("/f"),
		},
	}
	c, err := read(made(t, bound(rule), nil))
	if err != nil {
		t.Fatal(err)
	}
	m := c.Method("/made.Made/Do")
	bs := m.Bindings
	if len(bs) != 6 || c.Method("/made.Made/Nope") != nil || m.Rule.Deadline != time.Second {
		t.Fatalf("%d bindings", len(bs))
	}
	first := bs[0]
	if first.Verb != "PURGE" || first.BodyField.Name() != "f_message" || first.ResponseField.Name() != "kinds" || first.Request == nil ||
		first.Response == m.Output || len(first.Variables) != 2 || len(first.Variables[0].Fields) != 2 || first.Variables[1].Path != "f_string" {
		t.Errorf("%+v", first)
	}
	for i, want := range []struct {
		verb     string
		whole    bool // The body is the whole message.
		readable bool // Its JSON is that of a message.
	}{{"PURGE", false, true}, {"PUT", true, true}, {"POST", false, false}, {"PATCH", false, false}, {"DELETE", false, false}, {"GET", false, false}} {
		b := bs[i]
		if b.Verb != want.verb || (b.Body == schema.WholeBody) != want.whole || (b.Request != nil) != want.readable {
			t.Errorf("%s: %+v", want.verb, b)
		}
		if i > 0 && b.Response != m.Output {
			t.Errorf("%s: another response", want.verb)
		}
	}
}

func TestRefusals(t *testing.T) {
	nested := get("/a")
	nested.AdditionalBindings = []*annotations.HttpRule{{Pattern: &annotations.HttpRule_Get{Get: "/b"}, AdditionalBindings: []*annotations.HttpRule{get("/c")}}}
	newer := public()
	newer.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 51001, protowire.BytesType), []byte{0xfa, 0x7f, 1, 'x'}))
	garbage := &descriptorpb.MethodOptions{}
	garbage.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 51001, protowire.BytesType), "hello there"))
	for name, tc := range map[string]struct {
		options *descriptorpb.MethodOptions
		want    string
	}{
		"no rule":                       {&descriptorpb.MethodOptions{}, "made/made.proto: made.Made.Do has no rule: add option (sluice.policy.v1.method)"},
		"no pattern":                    {bound(&annotations.HttpRule{}), "made/made.proto: route of made.Made.Do: the option names no HTTP method"},
		"no such body":                  {bound(&annotations.HttpRule{Pattern: get("/a").Pattern, Body: "nope"}), `body: sluice.test.v1.Kinds has no field "nope"`},
		"no such response body":         {bound(&annotations.HttpRule{Pattern: get("/a").Pattern, ResponseBody: "nope"}), `response_body: sluice.test.v1.EchoResponse has no field "nope"`},
		"no such variable":              {bound(get("/a/{f_message.nope}")), `the path variable "f_message.nope": sluice.test.v1.`},
		"a variable through a scalar":   {bound(get("/a/{f_string.x}")), "leads through sluice.test.v1.Kinds.f_string, which is no message"},
		"a variable through a list":     {bound(get("/a/{r_message.owner}")), "leads through sluice.test.v1.Kinds.r_message, which is no message"},
		"a path that does not parse":    {bound(get("a")), "route of made.Made.Do"},
		"additional bindings that nest": {bound(nested), "no additional_bindings of its own"},
		"a rule newer than the gateway": {newer, "option (sluice.policy.v1.method) of made.Made.Do: sluice.policy.v1.MethodRule has fields that this gateway does not know"},
		"a rule that is none":           {garbage, "option (sluice.policy.v1.method) of made.Made.Do cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := read(made(t, tc.options, nil)); err == nil || !strings.Contains(err.Error(), tc.want) || c != nil {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestFieldBoundTwice: of two values one would be checked, and the other served. No
// binding of a method may have such a template, additional ones neither.
func TestFieldBoundTwice(t *testing.T) {
	for _, path := range []string{"/two/{f_string}/{f_string}", "/two/{f_message.f_int32}/{f_message}", "/two/{f_string=a/*}/x/{f_string=b/**}:go"} {
		for _, r := range []*annotations.HttpRule{
			get(path),
			{Pattern: &annotations.HttpRule_Custom{Custom: &annotations.CustomHttpPattern{Kind: "PURGE", Path: path}}},
			{Pattern: get("/one").Pattern, AdditionalBindings: []*annotations.HttpRule{get(path)}},
		} {
			if _, err := read(made(t, bound(r), nil)); err == nil || !strings.Contains(err.Error(), "a field that no other variable binds") {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

// TestForeignOption: another's option under our number is not ours, whatever it holds,
// and does not keep the method from a rule's absence being told.
func TestForeignOption(t *testing.T) {
	for name, raw := range map[string][]byte{
		"a varint":                    protowire.AppendVarint(protowire.AppendTag(nil, 51001, protowire.VarintType), 1),
		"a string":                    protowire.AppendString(protowire.AppendTag(nil, 51001, protowire.BytesType), "hello there"),
		"what would be a public rule": protowire.AppendBytes(protowire.AppendTag(nil, 51001, protowire.BytesType), []byte{0x0a, 2, 8, 1}),
	} {
		t.Run(name, func(t *testing.T) {
			o := &descriptorpb.MethodOptions{}
			o.ProtoReflect().SetUnknown(raw)
			sd := made(t, o, func(f *descriptorpb.FileDescriptorProto) {
				// Of messages of its own: the test service's file imports our option.
				f.Dependency = []string{"google/protobuf/descriptor.proto"}
				f.MessageType = []*descriptorpb.DescriptorProto{{Name: proto.String("M")}}
				f.Service[0].Method[0].InputType, f.Service[0].Method[0].OutputType = proto.String(".made.M"), proto.String(".made.M")
				typ := descriptorpb.FieldDescriptorProto_TYPE_STRING
				if strings.Contains(name, "varint") {
					typ = descriptorpb.FieldDescriptorProto_TYPE_INT32
				}
				f.Extension = []*descriptorpb.FieldDescriptorProto{{
					Name: proto.String("theirs"), Number: proto.Int32(51001), Type: &typ, Extendee: proto.String(".google.protobuf.MethodOptions"),
					Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
				}}
			})
			if _, err := read(sd); err == nil || !strings.Contains(err.Error(), "made.Made.Do has no rule") {
				t.Error(err)
			}
		})
	}
}

// TestTypes: an Any finds what the services' files declare, linked in or not, and behind
// them what is linked in.
func TestTypes(t *testing.T) {
	c, err := schema.New([]protoreflect.ServiceDescriptor{dynamic(t, set(t), &protoregistry.Types{})}, schema.Options{Linked: protoregistry.GlobalTypes})
	if err != nil {
		t.Fatal(err)
	}
	kinds := c.Method("/sluice.test.v1.TestService/Echo").Descriptor.ParentFile().Messages().ByName("Kinds")
	for name, own := range map[protoreflect.FullName]bool{"sluice.test.v1.Kinds": true, "google.protobuf.Api": false} {
		for how, find := range map[string]func() (protoreflect.MessageType, error){
			"name": func() (protoreflect.MessageType, error) { return c.Types().FindMessageByName(name) },
			"url": func() (protoreflect.MessageType, error) {
				return c.Types().FindMessageByURL("type.googleapis.com/" + string(name))
			},
		} {
			mt, err := find()
			if err != nil || (mt.Descriptor() == kinds) != own {
				t.Errorf("%s by %s: %v, %v", name, how, mt, err)
			}
		}
	}
	if _, err := c.Types().FindMessageByName("no.such.Message"); err == nil {
		t.Error("a type that is not there was found")
	}
	if _, err := c.Types().FindExtensionByName("sluice.policy.v1.method"); err != nil {
		t.Error(err)
	}
	if _, err := c.Types().FindExtensionByNumber("google.protobuf.MethodOptions", 51001); err != nil {
		t.Error(err)
	}
}

// TestFilesThatDiffer: a path names one file.
func TestFilesThatDiffer(t *testing.T) {
	a := made(t, public(), nil)
	same := made(t, public(), func(f *descriptorpb.FileDescriptorProto) {})
	other := made(t, public(), func(f *descriptorpb.FileDescriptorProto) { f.Service[0].Name = proto.String("Other") })
	if _, err := read(a, other); err == nil || !strings.Contains(err.Error(), "service made.Other: there are two files made/made.proto that differ") {
		t.Error(err)
	}
	if _, err := read(a, same); err == nil || !strings.Contains(err.Error(), "made.Made/Do is registered twice") {
		t.Error(err)
	}
}

func BenchmarkNew(b *testing.B) {
	services := []protoreflect.ServiceDescriptor{testFile.Services().ByName("TestService")}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := read(services...); err != nil {
			b.Fatal(err)
		}
	}
}
