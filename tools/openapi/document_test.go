package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/gen/openapi"
)

func generated(t *testing.T) *document {
	t.Helper()
	doc, err := decode(openapi.Document)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// want is one line of the REST surface.
type want struct {
	id, verb, path string
	// success is the code and the media types, such as "200 application/json".
	success string
	// scopes are space-separated; "public" means no credential at all.
	scopes string
	// failures leaves out 400, 401, 429, 500, 502, 503, 504, which every operation has.
	failures string
	// body are the media types of the request.
	body string
	// limit is the class and the cost.
	limit string
}

const pictures = "image/gif image/jpeg image/png image/webp"

// surface is section "The REST surface of the shop" of the design, written by
// hand: the document must say the same.
var surface = []want{
	{"UserService_CreateUser", "post", "/v1/users", "201 application/json", "users.write", "403 408 409 413 415", "application/json", "write 1"},
	{"UserService_GetUser", "get", "/v1/users/{user_id}", "200 application/json", "users.read", "403 404", "", "read 1"},
	{"UserService_ListUsers", "get", "/v1/users", "200 application/json", "admin", "403", "", "read 1"},
	{"UserService_UpdateUser", "patch", "/v1/users/{user_id}", "200 application/json", "users.write", "403 404 408 409 413 415", "application/json", "write 1"},
	{"UserService_DeleteUser", "delete", "/v1/users/{user_id}", "204", "admin", "403 404 409", "", "write 1"},
	{"UserService_BatchGetUsers", "get", "/v1/users:batchGet", "200 application/json", "admin", "403 404", "", "read 2"},
	{"OrderService_CreateOrder", "post", "/v1/users/{user_id}/orders", "201 application/json", "orders.write", "403 404 408 409 413 415", "application/json", "write 1"},
	{"OrderService_GetOrder", "get", "/v1/orders/{order_id}", "200 application/json", "orders.read", "403 404", "", "read 1"},
	{"OrderService_ListOrders", "get", "/v1/users/{user_id}/orders", "200 application/json", "orders.read", "403 404", "", "read 1"},
	{"OrderService_CancelOrder", "post", "/v1/orders/{order_id}:cancel", "200 application/json", "orders.write", "403 404 408 409 413 415", "application/json", "write 1"},
	{"OrderService_WatchOrder", "get", "/v1/orders/{order_id}:watch", "200 application/x-ndjson", "orders.read", "403 404", "", "stream 1"},
	{"ProfileService_GetProfile", "get", "/v1/users/{user_id}/profile", "200 application/json", "public", "404", "", "read 1"},
	{"ProfileService_UpdateProfile", "patch", "/v1/users/{user_id}/profile", "200 application/json", "profiles.write", "403 404 408 409 413 415", "application/json", "write 1"},
	{"ProfileService_UploadAvatar", "put", "/v1/users/{user_id}/profile/avatar", "200 application/json", "profiles.write", "403 404 408 409 413 415", pictures, "write 5"},
	{"ProfileService_GetAvatar", "get", "/v1/users/{user_id}/profile/avatar", "200 " + pictures, "public", "404", "", "read 1"},
	{"BffService_GetUserOverview", "get", "/v1/users/{user_id}/overview", "200 application/json", "users.read orders.read", "403 404", "", "read 3"},
	{"BffService_GetOrderDetails", "get", "/v1/orders/{order_id}/details", "200 application/json", "users.read orders.read", "403 404", "", "read 3"},
}

func TestSurface(t *testing.T) {
	doc := generated(t)
	for _, w := range surface {
		t.Run(w.id, func(t *testing.T) {
			op := doc.Paths[w.path][w.verb]
			if op == nil {
				t.Fatalf("%s %s is not in the document", w.verb, w.path)
			}
			if diff := cmp.Diff(w, observed(t, doc, op, w.verb, w.path), cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("design against document:\n%s", diff)
			}
		})
	}
	count := 0
	for _, item := range doc.Paths {
		count += len(item)
	}
	if count != len(surface) {
		t.Errorf("the document has %d operations, the design %d", count, len(surface))
	}
}

// observed reads an operation back into the table's terms.
func observed(t *testing.T, doc *document, op *operation, verb, path string) want {
	t.Helper()
	got := want{id: op.OperationID, verb: verb, path: path, scopes: strings.Join(op.RequiredScopes, " ")}
	if len(op.Security) == 0 {
		got.scopes = "public"
	} else if diff := cmp.Diff([]map[string][]string{{bearer: op.RequiredScopes}, {apiKey: op.RequiredScopes}}, op.Security); diff != "" {
		t.Errorf("security: %s", diff)
	}
	if op.Limit != nil {
		got.limit = op.Limit.Class + " " + strconv.Itoa(op.Limit.Cost)
	}
	if op.RequestBody != nil {
		got.body = mediaTypes(op.RequestBody.Content)
	}
	var failures []string
	always := map[string]bool{"400": true, "401": true, "429": true, "500": true, "502": true, "503": true, "504": true}
	for _, code := range slices.Sorted(maps.Keys(op.Responses)) {
		r := op.Responses[code]
		if code < "300" {
			got.success = strings.TrimSpace(got.success + code + " " + mediaTypes(r.Content))
			continue
		}
		shared := doc.Components.Responses[strings.TrimPrefix(r.Ref, responsePrefix)]
		if shared == nil || mediaTypes(shared.Content) != problemType {
			t.Errorf("%s is not a problem: %+v", code, r)
		}
		if !always[code] {
			failures = append(failures, code)
		}
		delete(always, code)
	}
	if len(always) > 0 {
		t.Errorf("these failures are missing: %v", always)
	}
	got.failures = strings.Join(failures, " ")
	return got
}

func mediaTypes(content map[string]*mediaType) string {
	return strings.Join(slices.Sorted(maps.Keys(content)), " ")
}

// Every answer says which request it answers, and those that promise more keep it.
func TestHeaders(t *testing.T) {
	doc := generated(t)
	for _, c := range []struct{ verb, path, code, want string }{
		{"post", "/v1/users", "201", "Idempotency-Replayed Location RateLimit RateLimit-Policy X-Request-ID"},
		{"post", "/v1/users/{user_id}/orders", "201", "Idempotency-Replayed Location RateLimit RateLimit-Policy X-Request-ID"},
		{"get", "/v1/users/{user_id}", "200", "RateLimit RateLimit-Policy X-Request-ID"},
		{"delete", "/v1/users/{user_id}", "204", "RateLimit RateLimit-Policy X-Request-ID"},
		{"get", "/v1/orders/{order_id}:watch", "200", "RateLimit RateLimit-Policy X-Request-ID"},
		{"get", "/v1/users/{user_id}", "401", "WWW-Authenticate X-Request-ID"},
		{"get", "/v1/users/{user_id}", "403", "WWW-Authenticate X-Request-ID"},
		{"get", "/v1/users/{user_id}", "404", "X-Request-ID"},
		{"get", "/v1/users/{user_id}", "429", "RateLimit RateLimit-Policy Retry-After X-Request-ID"},
		{"get", "/v1/users/{user_id}", "503", "Retry-After X-Request-ID"},
	} {
		r := doc.Paths[c.path][c.verb].Responses[c.code]
		if r.Ref != "" {
			r = doc.Components.Responses[strings.TrimPrefix(r.Ref, responsePrefix)]
		}
		if got := strings.Join(slices.Sorted(maps.Keys(r.Headers)), " "); got != c.want {
			t.Errorf("%s %s %s: headers %q, want %q", c.verb, c.path, c.code, got, c.want)
		}
	}
}

func TestSecuritySchemes(t *testing.T) {
	schemes := generated(t).Components.SecuritySchemes
	if s := schemes[bearer]; s.Type != "http" || s.Scheme != "bearer" || len(schemes) != 2 {
		t.Errorf("schemes %+v", schemes)
	}
	if s := schemes[apiKey]; s.Type != "apiKey" || s.In != "header" || s.Name != "X-API-Key" || s.Scheme != "" {
		t.Errorf("API keys: %+v", s)
	}
}

func TestIdempotencyKey(t *testing.T) {
	for path, item := range generated(t).Paths {
		for verb, op := range item {
			has := slices.ContainsFunc(op.Parameters, func(p *parameter) bool { return p.In == "header" && p.Name == "Idempotency-Key" })
			want := op.OperationID == "UserService_CreateUser" || op.OperationID == "OrderService_CreateOrder"
			if has != want {
				t.Errorf("%s %s: Idempotency-Key is %v, want %v", verb, path, has, want)
			}
		}
	}
}

// What the plugin wrote of its own accord and nothing of ours answers.
func TestNothingOfThePluginsRemains(t *testing.T) {
	text := string(openapi.Document)
	for _, s := range []string{"google.rpc.Status", "google.api.HttpBody", "AdvanceOrder", `"default":`, "{user.user_id}", "{profile.user_id}"} {
		if strings.Contains(text, s) {
			t.Errorf("the document contains %s", s)
		}
	}
}

func TestReferencesResolve(t *testing.T) {
	var doc any
	if err := json.Unmarshal(openapi.Document, &doc); err != nil {
		t.Fatal(err)
	}
	count := 0
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				count++
				if !resolves(doc, ref) {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(doc)
	if count < 100 {
		t.Errorf("only %d references: is this the document?", count)
	}
}

func resolves(doc any, ref string) bool {
	rest, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return false
	}
	for name := range strings.SplitSeq(rest, "/") {
		m, ok := doc.(map[string]any)
		if !ok {
			return false
		}
		if doc, ok = m[name]; !ok {
			return false
		}
	}
	return true
}

// The document says what protovalidate checks, where JSON Schema can.
func TestLimitsOfFields(t *testing.T) {
	doc := generated(t)
	const id = "^[a-z0-9][a-z0-9_-]{0,62}$"
	param := func(verb, path, name string) schema {
		for _, p := range doc.Paths[path][verb].Parameters {
			if p.Name == name {
				return p.Schema
			}
		}
		t.Fatalf("%s %s has no parameter %s", verb, path, name)
		return nil
	}
	field := func(message, name string) schema { return properties(doc.Components.Schemas[message])[name] }
	number := func(s string) json.Number { return json.Number(s) }
	for name, c := range map[string]struct{ got, want schema }{
		"path parameter":            {param("get", "/v1/users/{user_id}", "user_id"), schema{"type": "string", "pattern": id}},
		"path parameter of a field": {param("patch", "/v1/users/{user_id}", "user_id"), schema{"type": "string", "pattern": "^$|" + id}},
		"page size":                 {param("get", "/v1/users", "pageSize"), schema{"type": "integer", "format": "int32", "minimum": number("0"), "maximum": number("100")}},
		"list parameter": {param("get", "/v1/users:batchGet", "userIds"), schema{"type": "array", "minItems": number("1"), "maxItems": number("100"),
			"items": map[string]any{"type": "string", "pattern": id}}},
		"64-bit integer is a string": {field("shop.type.v1.Money", "units"), schema{"type": "string", "format": "int64", "description": "Whole units of the amount."}},
		"map": {field("shop.profile.v1.Profile", "links"), schema{"type": "object", "description": "Links by their names, 20 at most, to http, https or mailto addresses.", "maxProperties": number("20"),
			"propertyNames":        map[string]any{"minLength": number("1"), "maxLength": number("50")},
			"additionalProperties": map[string]any{"type": "string", "format": "uri", "maxLength": number("2000")}}},
		"format": {field("shop.user.v1.User", "email"), schema{"type": "string", "format": "email", "maxLength": number("254"),
			"description": "E-mail address; no two users have the same, whatever its case."}},
		"field of a change": {field("shop.user.v1.User.Patch", "displayName"), schema{"type": []any{"string", "null"}, "maxLength": number("100"), "description": "Name to show."}},
		"upload":            {doc.Paths["/v1/users/{user_id}/profile/avatar"]["put"].RequestBody.Content["image/png"].Schema, schema{"type": "string", "format": "binary", "maxLength": number("2097152")}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, c.got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A change of a user may leave out what a new user needs, and cannot write what
// only the service writes.
func TestPatchBody(t *testing.T) {
	doc := generated(t)
	ref := doc.Paths["/v1/users/{user_id}"]["patch"].RequestBody.Content[jsonType].Schema["$ref"]
	if ref != schemaPrefix+"shop.user.v1.User.Patch" {
		t.Fatalf("the body of PATCH is %v", ref)
	}
	patch := doc.Components.Schemas["shop.user.v1.User.Patch"]
	if patch["required"] != nil || properties(patch)["createTime"] != nil || properties(patch)["phone"] == nil {
		t.Errorf("schema of a change: %v", patch)
	}
	if full := doc.Components.Schemas["shop.user.v1.User"]; full["required"] == nil || properties(full)["createTime"] == nil {
		t.Errorf("the full schema lost something: %v", full)
	}
}

func TestStreamLines(t *testing.T) {
	line := generated(t).Paths["/v1/orders/{order_id}:watch"]["get"].Responses["200"].Content[ndjsonType].Schema
	want := schema{"description": "One line of the stream.", "oneOf": []any{
		map[string]any{"type": "object", "required": []any{"result"}, "properties": map[string]any{"result": map[string]any{"$ref": schemaPrefix + "shop.order.v1.Order"}}},
		map[string]any{"type": "object", "required": []any{"error"}, "properties": map[string]any{"error": map[string]any{"$ref": schemaPrefix + "Problem"}}},
	}}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Error(diff)
	}
}
