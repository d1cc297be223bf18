package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	title       = "Sluice shop API"
	description = "Users, orders and profiles of a shop, and composites of them.\n\n" +
		"Names in JSON are lowerCamelCase; requests may use the proto's snake_case names as well. " +
		"64-bit integers are strings. In answers a message that is not set is absent, while scalars, " +
		"lists and maps are always present. Errors are problem details (RFC 9457) with the name of the gRPC " +
		"code in `code`. Every answer carries `X-Request-ID`: the request's own, or one that was made.\n\n" +
		"What is left of the limits that count a request stands in `RateLimit`, and what they are in " +
		"`RateLimit-Policy`. Any request may also be refused for its form before it is looked at: a URL that is " +
		"too long is 414, too many header fields are 431."
)

// complete adds to the plugin's document what only the rules know. It fails
// when the document and the descriptors do not name the same operations.
func complete(doc *document, services []protoreflect.ServiceDescriptor) error {
	bound, err := bindings(services)
	if err != nil {
		return err
	}
	doc.Info = info{
		Title:       title,
		Description: description,
		Version:     "1.0.0",
	}
	doc.Servers = []server{{URL: "/", Description: "The gateway that serves this document."}}
	// The plugin's error and its JSON picture of raw bodies are not what we send.
	delete(doc.Components.Schemas, "google.rpc.Status")
	delete(doc.Components.Schemas, "google.api.HttpBody")
	if err := constrainComponents(doc.Components.Schemas); err != nil {
		return err
	}
	if err := completePaths(doc, bound); err != nil {
		return err
	}
	addSharedComponents(&doc.Components)
	return nil
}

// completePaths completes every operation and moves it to its path in the
// document.
func completePaths(doc *document, bound map[route]*binding) error {
	paths := map[string]pathItem{}
	media := bodyMedia(bound)
	for _, template := range slices.Sorted(maps.Keys(doc.Paths)) {
		item := doc.Paths[template]
		for _, verb := range slices.Sorted(maps.Keys(item)) {
			key := route{verb, template}
			b, ok := bound[key]
			if !ok {
				return fmt.Errorf("%s: no linked RPC has this route; is its package missing in tools/openapi/services.go?", key)
			}
			delete(bound, key)
			op := item[verb]
			if err := completeOperation(op, b, media[b.path], doc.Components.Schemas); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			if paths[b.path] == nil {
				paths[b.path] = pathItem{}
			}
			if other := paths[b.path][verb]; other != nil {
				return fmt.Errorf("%s: %s and %s are the same operation", b.route, other.OperationID, op.OperationID)
			}
			paths[b.path][verb] = op
		}
	}
	for key, b := range bound {
		return fmt.Errorf("%s: %s is not in the plugin's document", key, b.method.FullName())
	}
	doc.Paths = paths
	return nil
}

// bodyMedia is, by path, the media types that reading it answers: storing a raw
// body there takes the same ones.
func bodyMedia(bound map[route]*binding) map[string][]string {
	out := map[string][]string{}
	for _, b := range bound {
		if b.verb == "get" && isRawBody(b.method.Output()) {
			out[b.path] = b.rule.MediaTypes
		}
	}
	return out
}

func completeOperation(op *operation, b *binding, media []string, schemas map[string]schema) error {
	op.Summary, op.Description = describe(op.Summary, b)
	op.Security = []map[string][]string{}
	if !b.rule.Public {
		op.Security = alternatives(b.rule.Scopes, b.rule.AnyScopes)
		op.RequiredScopes, op.AnyScopes = b.rule.Scopes, b.rule.AnyScopes
	}
	if b.rule.LimitClass != "" {
		op.Limit = &limit{Class: b.rule.LimitClass, Cost: b.rule.LimitCost}
	}
	if err := completeParameters(op, b); err != nil {
		return err
	}
	addFields(op, b)
	if err := completeBody(op, b, media, schemas); err != nil {
		return err
	}
	success, err := completeSuccess(op, b)
	if err != nil {
		return err
	}
	op.Responses = success
	for _, p := range problemsOf(b) {
		op.Responses[strconv.Itoa(p.status)] = &response{Ref: responsePrefix + p.name}
	}
	return nil
}

// alternatives are the ways to be let in: with each kind of credential, with the
// scopes and, where one of several is enough, each of those.
func alternatives(scopes, anyOf []string) []map[string][]string {
	sets := [][]string{slices.Clone(scopes)}
	if len(anyOf) > 0 {
		sets = nil
		for _, s := range anyOf {
			sets = append(sets, append(slices.Clone(scopes), s))
		}
	}
	var out []map[string][]string
	for _, scheme := range []string{bearer, apiKey} {
		for _, set := range sets {
			out = append(out, map[string][]string{scheme: append([]string{}, set...)})
		}
	}
	return out
}

// describe splits the RPC's comment into a summary, its first sentence, and a
// description, which also says who may call.
func describe(comment string, b *binding) (summary, text string) {
	comment = strings.Join(strings.Fields(comment), " ")
	summary, rest, found := strings.Cut(comment, ". ")
	if found {
		summary += "."
	}
	parts := []string{}
	if rest != "" {
		parts = append(parts, rest)
	}
	if b.method.IsStreamingServer() {
		parts = append(parts, "The answer is a stream of JSON values, one a line, each with either `result` or, "+
			"as the last line of a stream that failed, `error`.")
	}
	parts = append(parts, access(b))
	if b.rule.LimitClass != "" {
		parts = append(parts, spends(b))
	}
	return summary, strings.Join(parts, "\n\n")
}

// access says in words who may call.
func access(b *binding) string {
	var say []string
	scopes, oneOf := b.rule.Scopes, b.rule.AnyScopes
	switch {
	case b.rule.Public:
		say = append(say, "Anyone may call this, without a credential.")
	case len(scopes)+len(oneOf) == 0:
		say = append(say, "Requires a valid credential.")
	case len(scopes) == 1:
		say = append(say, "Requires the scope `"+scopes[0]+"`.")
	case len(scopes) > 1:
		say = append(say, "Requires the scopes `"+strings.Join(scopes, "`, `")+"`.")
	}
	if len(oneOf) > 0 {
		say = append(say, "Requires one of the scopes `"+strings.Join(oneOf, "`, `")+"`.")
	}
	if b.rule.Owner != nil {
		say = append(say, "The caller must be the user that `"+lastName(b.rule.Owner.String())+"` names, or have the scope `admin`.")
	}
	if b.rule.OwnerByService {
		say = append(say, "To anyone but its owner and the scope `admin`, it is not found.")
	}
	if b.rule.Tenant != nil {
		say = append(say, "The caller must be of the tenant that `"+lastName(b.rule.Tenant.String())+"` names.")
	}
	if len(b.rule.Conditions) > 0 {
		say = append(say, "Some requests are refused for what they ask for.")
	}
	return strings.Join(say, " ")
}

// spends says in words what a call takes from the caller's limits.
func spends(b *binding) string {
	tokens := "1 token"
	if b.rule.LimitCost != 1 {
		tokens = strconv.Itoa(b.rule.LimitCost) + " tokens"
	}
	return "Takes " + tokens + " of the limit class `" + b.rule.LimitClass + "`."
}
