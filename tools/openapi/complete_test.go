package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gen/openapi"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

var (
	profiles = profilev1.File_shop_profile_v1_profile_proto.Services()
	users    = userv1.File_shop_user_v1_user_proto.Services()
)

// plugin is what protoc-gen-openapiv3 writes for the profile service, cut to
// what matters here.
func plugin(t *testing.T) *document {
	t.Helper()
	op := func(id string) *operation {
		return &operation{
			OperationID: id, Summary: "Does it.\nAnd more.",
			Responses: map[string]*response{"200": {Description: "ok", Content: map[string]*mediaType{jsonType: {Schema: schemaRef("shop.profile.v1.Profile")}}}},
		}
	}
	withBody := func(id string, s schema) *operation {
		o := op(id)
		o.RequestBody = &requestBody{Content: map[string]*mediaType{jsonType: {Schema: s}}, Required: true}
		return o
	}
	return &document{
		OpenAPI: "3.1.0",
		Paths: map[string]pathItem{
			"/v1/users/{user_id}/profile":         {"get": op("Get")},
			"/v1/users/{profile.user_id}/profile": {"patch": withBody("Update", schemaRef("shop.profile.v1.Profile"))},
			"/v1/users/{user_id}/profile/avatar":  {"get": op("GetAvatar"), "put": withBody("Upload", schemaRef("google.api.HttpBody"))},
		},
		Components: components{Schemas: map[string]schema{
			"google.rpc.Status":       {},
			"shop.profile.v1.Profile": {"type": "object", "properties": map[string]any{"bio": map[string]any{"type": "string"}}},
		}},
	}
}

func TestComplete(t *testing.T) {
	doc := plugin(t)
	if err := complete(doc, []protoreflect.ServiceDescriptor{profiles.Get(0)}); err != nil {
		t.Fatal(err)
	}
	item := doc.Paths["/v1/users/{user_id}/profile"]
	if len(doc.Paths) != 2 || item["get"] == nil || item["patch"] == nil {
		t.Errorf("GET and PATCH of a profile are not at one path: %v", doc.Paths)
	}
	if item["get"].Summary != "Does it." || !strings.HasPrefix(item["get"].Description, "And more.\n\nAnyone may call") {
		t.Errorf("summary %q, description %q", item["get"].Summary, item["get"].Description)
	}
}

// The document and the descriptors must name the same operations, and a fault
// must say where it is.
func TestCompleteRefuses(t *testing.T) {
	for _, c := range []struct {
		name     string
		change   func(*document)
		services []protoreflect.ServiceDescriptor
		says     string
	}{
		{
			"an operation without an RPC", func(d *document) { d.Paths["/v2"] = pathItem{"get": {}} },
			[]protoreflect.ServiceDescriptor{profiles.Get(0)}, "GET /v2: no linked RPC",
		},
		{
			"an RPC without an operation", func(d *document) { delete(d.Paths, "/v1/users/{user_id}/profile") },
			[]protoreflect.ServiceDescriptor{profiles.Get(0)}, "GetProfile is not in the plugin's document",
		},
		{
			"a package that is not linked", func(*document) {},
			[]protoreflect.ServiceDescriptor{users.Get(0)}, "no linked RPC",
		},
		{
			"a schema of nothing", func(d *document) { d.Components.Schemas["shop.profile.v1.Gone"] = schema{} },
			[]protoreflect.ServiceDescriptor{profiles.Get(0)}, "shop.profile.v1.Gone",
		},
		{
			"a property of nothing", func(d *document) {
				d.Components.Schemas["shop.profile.v1.Profile"]["properties"].(map[string]any)["age"] = map[string]any{}
			},
			[]protoreflect.ServiceDescriptor{profiles.Get(0)}, `no field "age"`,
		},
		{
			"a service twice", func(*document) {},
			[]protoreflect.ServiceDescriptor{profiles.Get(0), profiles.Get(0)}, "registered twice",
		},
		{
			"a variable of several segments", func(*document) {},
			[]protoreflect.ServiceDescriptor{testv1.File_sluice_test_v1_test_proto.Services().Get(0)}, "several segments",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc := plugin(t)
			c.change(doc)
			err := complete(doc, c.services)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
}

func TestAlternatives(t *testing.T) {
	type sets = []map[string][]string
	for _, c := range []struct {
		name          string
		scopes, anyOf []string
		want          sets
	}{
		{"any credential", nil, nil, sets{{bearer: {}}, {apiKey: {}}}},
		{"all of two", []string{"a", "b"}, nil, sets{{bearer: {"a", "b"}}, {apiKey: {"a", "b"}}}},
		{"one of two", nil, []string{"a", "b"}, sets{{bearer: {"a"}}, {bearer: {"b"}}, {apiKey: {"a"}}, {apiKey: {"b"}}}},
		{"both", []string{"a"}, []string{"b", "c"}, sets{{bearer: {"a", "b"}}, {bearer: {"a", "c"}}, {apiKey: {"a", "b"}}, {apiKey: {"a", "c"}}}},
	} {
		if diff := cmp.Diff(c.want, alternatives(c.scopes, c.anyOf)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// What an operation says in words of who may call it, and what it takes.
func TestAccess(t *testing.T) {
	in := users.Get(0).Methods().ByName("GetUser").Input()
	path, err := policy.CompileFieldPath(in, "user_id")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		rule policy.Rule
		want string
	}{
		{policy.Rule{Public: true}, "Anyone may call this, without a credential."},
		{policy.Rule{Authenticated: true}, "Requires a valid credential."},
		{policy.Rule{AnyScopes: []string{"a", "b"}}, "Requires one of the scopes `a`, `b`."},
		{policy.Rule{Scopes: []string{"c"}, AnyScopes: []string{"a", "b"}}, "Requires the scope `c`. Requires one of the scopes `a`, `b`."},
		{policy.Rule{Scopes: []string{"c"}, Tenant: path}, "Requires the scope `c`. The caller must be of the tenant that `user_id` names."},
	} {
		b := &binding{rule: c.rule}
		if got := access(b); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
		if guarded(b) != (len(c.rule.Scopes)+len(c.rule.AnyScopes) > 0) {
			t.Errorf("%q: 403 is %v", c.want, guarded(b))
		}
	}
	if got := spends(&binding{rule: policy.Rule{LimitClass: "read", LimitCost: 3}}); got != "Takes 3 tokens of the limit class `read`." {
		t.Error(got)
	}
	if got := spends(&binding{rule: policy.Rule{LimitClass: "write", LimitCost: 1}}); got != "Takes 1 token of the limit class `write`." {
		t.Error(got)
	}
}

func TestDecodeIsStrict(t *testing.T) {
	if _, err := decode([]byte(`{"openapi": "3.1.0", "webhooks": {}}`)); err == nil {
		t.Error("a part that this command does not know was accepted")
	}
}

// The order of a map must never reach the file.
func TestSameBytesEachTime(t *testing.T) {
	var first []byte
	for range 5 {
		doc := plugin(t)
		if err := complete(doc, []protoreflect.ServiceDescriptor{profiles.Get(0)}); err != nil {
			t.Fatal(err)
		}
		text, err := encode(doc)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = text
		}
		if !bytes.Equal(first, text) {
			t.Fatal("two runs differ")
		}
	}
}

func TestFailedRunWritesNothing(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "merged.json")
	if err := os.WriteFile(in, openapi.Document, 0o600); err != nil {
		t.Fatal(err)
	}
	// The finished document has shared components of its own: not a plugin's.
	if err := run(in, dir); err == nil {
		t.Error("a finished document was completed again")
	}
	if _, err := os.Stat(filepath.Join(dir, "openapi.json")); err == nil {
		t.Error("a failed run left a document behind")
	}
}

func TestApply(t *testing.T) {
	for _, c := range []struct {
		name  string
		rules *validate.FieldRules
		in    schema
		want  schema
	}{
		{
			"bounds of a number",
			&validate.FieldRules{Type: &validate.FieldRules_Int32{Int32: &validate.Int32Rules{
				GreaterThan: &validate.Int32Rules_Gt{Gt: 1}, LessThan: &validate.Int32Rules_Lt{Lt: 9},
			}}},
			schema{"type": "integer"}, schema{"type": "integer", "exclusiveMinimum": int32(1), "exclusiveMaximum": int32(9)},
		},
		{
			"64-bit integers are strings",
			&validate.FieldRules{Type: &validate.FieldRules_Int64{Int64: &validate.Int64Rules{GreaterThan: &validate.Int64Rules_Gte{Gte: 1}}}},
			schema{"type": "string"}, schema{"type": "string"},
		},
		{
			"empty is allowed where it means unset",
			&validate.FieldRules{Ignore: validate.Ignore_IGNORE_IF_ZERO_VALUE.Enum(), Type: &validate.FieldRules_String_{String_: &validate.StringRules{
				Pattern: proto.String("^a|b$"), MinLen: proto.Uint64(1), MaxLen: proto.Uint64(2),
			}}},
			schema{"type": "string"}, schema{"type": "string", "pattern": "^$|^a|b$", "maxLength": uint64(2)},
		},
		{
			"a rule that is never checked",
			&validate.FieldRules{Ignore: validate.Ignore_IGNORE_ALWAYS.Enum(), Type: &validate.FieldRules_String_{String_: &validate.StringRules{MinLen: proto.Uint64(1)}}},
			schema{"type": "string"}, schema{"type": "string"},
		},
		{
			"items of a list",
			&validate.FieldRules{Type: &validate.FieldRules_Repeated{Repeated: &validate.RepeatedRules{
				Unique: proto.Bool(false), MaxItems: proto.Uint64(3),
				Items: &validate.FieldRules{Type: &validate.FieldRules_String_{String_: &validate.StringRules{WellKnown: &validate.StringRules_Uuid{Uuid: true}}}},
			}}},
			schema{"type": "array", "items": map[string]any{"type": "string"}},
			schema{"type": "array", "maxItems": uint64(3), "items": map[string]any{"type": "string", "format": "uuid"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := apply(c.in, c.rules); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, c.in); diff != "" {
				t.Error(diff)
			}
		})
	}
}
