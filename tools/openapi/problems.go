package main

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	bearer        = "bearerAuth"
	apiKey        = "apiKeyAuth"
	problemType   = "application/problem+json"
	problemSchema = "Problem"
)

// limitHeaders say what is left of the limits that counted a request
// (draft-ietf-httpapi-ratelimit-headers).
var limitHeaders = []string{"RateLimit", "RateLimit-Policy"}

// problem is one way an operation fails: a shared response of the document.
type problem struct {
	status            int
	name, description string
	// code is the gRPC code it most often comes from.
	code code.Code
	// headers are the names of those that this answer has beside X-Request-ID.
	headers []string
	// when says whether an operation can fail so; nil means always.
	when func(*binding) bool
}

// problems lists the failures in the order of their codes.
func problems() []problem {
	return []problem{
		{status: 400, code: code.Code_INVALID_ARGUMENT, name: "BadRequest", description: "A parameter or the body is malformed or breaks a rule, or the state of the resource forbids the call."},
		{status: 401, code: code.Code_UNAUTHENTICATED, name: "Unauthenticated", headers: []string{"WWW-Authenticate"}, description: "A credential is missing, or the one that was sent is not valid."},
		{status: 403, code: code.Code_PERMISSION_DENIED, name: "Forbidden", headers: []string{"WWW-Authenticate"}, when: guarded, description: "The caller lacks a scope, is not the owner, or may not ask for this."},
		{status: 404, code: code.Code_NOT_FOUND, name: "NotFound", when: namesResource, description: "What the request names does not exist, or is not the caller's to see."},
		{status: 408, code: code.Code_DEADLINE_EXCEEDED, name: "RequestTimeout", when: hasBody, description: "The body did not arrive in time."},
		{status: 409, code: code.Code_ABORTED, name: "Conflict", when: canConflict, description: "It exists already, has changed since (etag), or the idempotency key was used for another request."},
		{status: 413, code: code.Code_RESOURCE_EXHAUSTED, name: "ContentTooLarge", when: hasBody, description: "The body is larger than allowed."},
		{status: 415, code: code.Code_INVALID_ARGUMENT, name: "UnsupportedMediaType", when: hasBody, description: "The body's media type is not accepted."},
		{status: 429, code: code.Code_RESOURCE_EXHAUSTED, name: "TooManyRequests", headers: append([]string{"Retry-After"}, limitHeaders...), description: "Too many requests, too many at once, or a quota is used up. The limits that counted the request stand in the headers."},
		{status: 500, code: code.Code_INTERNAL, name: "Internal", description: "Something failed that should not have."},
		{status: 502, code: code.Code_INTERNAL, name: "BadGateway", description: "A service behind the gateway answered what it must not."},
		{status: 503, code: code.Code_UNAVAILABLE, name: "Unavailable", headers: []string{"Retry-After"}, description: "The gateway or a service behind it cannot answer now."},
		{status: 504, code: code.Code_DEADLINE_EXCEEDED, name: "DeadlineExceeded", description: "The answer took too long."},
	}
}

func (p problem) example() map[string]any {
	return map[string]any{
		"type": "about:blank", "title": http.StatusText(p.status), "status": p.status,
		"code": p.code.String(), "request_id": "5f0c7d3a9b1e4c62",
	}
}

func problemsOf(b *binding) []problem {
	return slices.DeleteFunc(problems(), func(p problem) bool { return p.when != nil && !p.when(b) })
}

// guarded: more than a valid credential is asked for.
func guarded(b *binding) bool {
	r := &b.rule
	return len(r.Scopes)+len(r.AnyScopes)+len(r.Conditions) > 0 || r.Owner != nil || r.Tenant != nil
}

// namesResource: the path names a resource, or the request several (AIP-231).
func namesResource(b *binding) bool {
	return strings.Contains(b.path, "{") || strings.HasPrefix(string(b.method.Name()), "BatchGet")
}

// canConflict: the call changes a resource as a whole or in part, or carries an
// etag or an idempotency key.
func canConflict(b *binding) bool {
	in := b.method.Input()
	if b.verb == "put" || b.verb == "patch" || b.rule.IdempotencyKey != nil || hasEtag(in) {
		return true
	}
	fd := in.Fields().ByName(protoreflect.Name(b.body))
	return fd != nil && fd.Message() != nil && hasEtag(fd.Message())
}

func hasEtag(md protoreflect.MessageDescriptor) bool {
	return md.Fields().ByName("etag") != nil
}

func hasBody(b *binding) bool { return b.body != "" }

// addSharedComponents adds what all operations point at.
func addSharedComponents(c *components) {
	maps.Copy(c.Schemas, problemSchemas())
	c.Headers = sharedHeaders()
	c.SecuritySchemes = map[string]securityScheme{
		bearer: {
			Type: "http", Scheme: "bearer", BearerFormat: "JWT",
			Description: "A token of an issuer that the gateway is configured to accept. Its scopes decide what it opens.",
		},
		apiKey: {
			Type: "apiKey", In: "header", Name: "X-API-Key",
			Description: "A key of a program, where the gateway is configured to accept any. Its scopes decide what it opens. In a URL it is not accepted.",
		},
	}
	c.Responses = map[string]*response{}
	for _, p := range problems() {
		r := &response{
			Description: p.description,
			Headers:     map[string]*header{"X-Request-ID": {Ref: headerPrefix + "X-Request-ID"}},
			Content:     map[string]*mediaType{problemType: {Schema: schemaRef(problemSchema), Example: p.example()}},
		}
		for _, name := range p.headers {
			r.Headers[name] = &header{Ref: headerPrefix + name}
		}
		c.Responses[p.name] = r
	}
}

func sharedHeaders() map[string]*header {
	text := schema{"type": "string"}
	return map[string]*header{
		"X-Request-ID":         {Description: "Id of the request, as in the logs.", Schema: text},
		"Location":             {Description: "Path of what was created.", Schema: schema{"type": "string", "format": "uri-reference"}},
		"WWW-Authenticate":     {Description: "The challenge (RFC 6750).", Schema: text},
		"Retry-After":          {Description: "Seconds to wait before asking again.", Schema: schema{"type": "integer", "minimum": 0}},
		"RateLimit":            {Description: "What is left, a limit each: `\"name\";r=remaining;t=seconds until it is full again`.", Schema: text},
		"RateLimit-Policy":     {Description: "The limits that count the request: `\"name\";q=requests;w=seconds`.", Schema: text},
		"Idempotency-Replayed": {Description: "`true` when this is the first answer to the same key, sent again.", Schema: schema{"type": "string", "enum": []any{"true"}}},
	}
}

func problemSchemas() map[string]schema {
	str := func(description string) schema { return schema{"type": "string", "description": description} }
	return map[string]schema{
		problemSchema: {
			"type":        "object",
			"description": "A failure, as problem details (RFC 9457).",
			"required":    []any{"type", "title", "status", "code", "request_id"},
			"properties": schema{
				"type":       schema{"type": "string", "format": "uri-reference", "description": "URI that names the kind of problem."},
				"title":      str("Short name of the kind of problem."),
				"status":     schema{"type": "integer", "description": "HTTP status code.", "minimum": 400, "maximum": 599},
				"detail":     str("What went wrong this time."),
				"code":       schema{"type": "string", "description": "Name of the gRPC code.", "enum": codeNames()},
				"request_id": str("Id of the request, as in X-Request-ID."),
				"details": schema{
					"type": "array", "description": "Typed details of the failure.",
					"items": schema{"type": "object", "properties": schema{"@type": str("URL that names the detail's message type.")}, "additionalProperties": true},
				},
				"errors": schema{"type": "array", "description": "The bad fields of the request.", "items": schemaRef("FieldError")},
			},
		},
		"FieldError": {
			"type":        "object",
			"description": "A field of the request and what is wrong with it.",
			"required":    []any{"field", "reason"},
			"properties":  schema{"field": str("Path of the field."), "reason": str("What is wrong.")},
		},
	}
}

// codeNames lists the gRPC codes of failures, in the order of their numbers.
func codeNames() []any {
	var out []any
	for _, n := range slices.Sorted(maps.Keys(code.Code_name)) {
		if n != int32(code.Code_OK) {
			out = append(out, code.Code_name[n])
		}
	}
	return out
}
