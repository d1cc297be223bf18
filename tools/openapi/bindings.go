package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/policy"
	gatewayschema "github.com/sluice-gateway/sluice/gateway/schema"
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
}

// bindings lists the routes of the services by the plugin's verb and path. An
// RPC without google.api.http has none. The rules are those that the gateway
// would find: what stops its start stops this, too.
func bindings(services []protoreflect.ServiceDescriptor) (map[route]*binding, error) {
	c, err := gatewayschema.New(services, gatewayschema.Options{Defaults: policy.Defaults{MaxRequestBytes: defaultBodyBytes}})
	if err != nil {
		return nil, err
	}
	out := map[route]*binding{}
	for _, m := range c.Methods() {
		for _, of := range m.Bindings {
			b, err := newBinding(of)
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

func newBinding(of *gatewayschema.Binding) (*binding, error) {
	b := &binding{
		route: route{verb: strings.ToLower(of.Verb)}, template: of.Template.String(), body: of.Body,
		method: of.Method.Descriptor, rule: of.Method.Rule, answer: answerOf(of.Method.Descriptor, of.ResponseField),
	}
	if !slices.Contains([]string{"get", "put", "post", "delete", "patch"}, b.verb) {
		return nil, fmt.Errorf("the custom method %s has no place in OpenAPI", of.Verb)
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
