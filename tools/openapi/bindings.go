package main

import (
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/policy"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// route is a verb in lower case and a path as the document writes it.
type route struct{ verb, path string }

func (r route) String() string { return strings.ToUpper(r.verb) + " " + r.path }

// binding is one REST route of an RPC, as google.api.http states it, with the
// RPC's rule.
type binding struct {
	route
	// template is the path as the plugin writes it, with the fields' full paths.
	template string
	body     string
	method   protoreflect.MethodDescriptor
	// answer is the message whose fields the answer has; nil where it has none.
	answer protoreflect.MessageDescriptor
	rule   policy.Rule
	// media are the media types of a raw answer.
	media []string
}

// bindings lists the routes of the services by the plugin's verb and path. An
// RPC without google.api.http has none. The rules are those that the gateway
// would find: what stops its start stops this, too.
func bindings(services []protoreflect.ServiceDescriptor) (map[route]*binding, error) {
	table, err := policy.NewTable(services, policy.Defaults{MaxRequestBytes: defaultBodyBytes}, nil)
	if err != nil {
		return nil, err
	}
	out := map[route]*binding{}
	for _, m := range table.Methods() {
		for _, h := range httpRules(m.Descriptor) {
			b, err := newBinding(m, h)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.FullName, err)
			}
			key := route{b.verb, b.template}
			if other, ok := out[key]; ok {
				return nil, fmt.Errorf("%s: %s and %s claim it", key, other.method.FullName(), b.method.FullName())
			}
			out[key] = b
		}
	}
	return out, nil
}

func httpRules(md protoreflect.MethodDescriptor) []*annotations.HttpRule {
	h, _ := proto.GetExtension(md.Options(), annotations.E_Http).(*annotations.HttpRule)
	if h == nil {
		return nil
	}
	return append([]*annotations.HttpRule{h}, h.GetAdditionalBindings()...)
}

func newBinding(m *policy.Method, h *annotations.HttpRule) (*binding, error) {
	b := &binding{body: h.GetBody(), method: m.Descriptor, rule: m.Rule, answer: answerOf(m.Descriptor, h.GetResponseBody())}
	if own, ok := proto.GetExtension(m.Descriptor.Options(), policyv1.E_Method).(*policyv1.MethodRule); ok {
		b.media = own.GetSuccess().GetMediaTypes()
	}
	switch p := h.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		b.verb, b.template = "get", p.Get
	case *annotations.HttpRule_Put:
		b.verb, b.template = "put", p.Put
	case *annotations.HttpRule_Post:
		b.verb, b.template = "post", p.Post
	case *annotations.HttpRule_Delete:
		b.verb, b.template = "delete", p.Delete
	case *annotations.HttpRule_Patch:
		b.verb, b.template = "patch", p.Patch
	default:
		return nil, fmt.Errorf("pattern %T has no place in OpenAPI", p)
	}
	if strings.Contains(b.template, "=") {
		return nil, fmt.Errorf("%s: a variable of several segments has no place in OpenAPI", b.template)
	}
	b.path = documentPath(b.template)
	return b, nil
}

var variable = regexp.MustCompile(`\{([^{}]+)\}`)

// documentPath shortens the variables to their last names. OpenAPI takes two
// templates that differ only in names for the same path, as /users/{user_id}
// and /users/{user.user_id} are, and wants one item for them.
func documentPath(template string) string {
	return variable.ReplaceAllStringFunc(template, func(v string) string {
		return "{" + lastName(v[1:len(v)-1]) + "}"
	})
}

func lastName(path string) string {
	return path[strings.LastIndexByte(path, '.')+1:]
}
