package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
)

// exchange is one request to a gateway with the test service, and its answer.
type exchange struct {
	name         string
	method, path string
	body         string
	header       http.Header
	anonymous    bool

	status int
	// contains and lacks are parts of the body.
	contains, lacks []string
	// answer are headers of the answer; "" means absent.
	answer map[string]string
}

func h(kv ...string) http.Header {
	out := http.Header{}
	for i := 0; i < len(kv); i += 2 {
		out.Add(kv[i], kv[i+1])
	}
	return out
}

const ctProblem = "application/problem+json"

// TestHTTPSemantics holds what HTTP clients may rely on, and every default of
// grpc-gateway that the design decided against.
func TestHTTPSemantics(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)), gateway.WithDocs("test", []byte("{}")))
	token := g.Token(t, "ada", "test.write")
	for _, x := range httpExchanges() {
		t.Run(x.name, func(t *testing.T) {
			res, body := do(t, g, token, x)
			check(t, x, res, body)
		})
	}
}

func do(t *testing.T, g *gatewaytest.Gateway, token string, x exchange) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), x.method, g.URL+"/", strings.NewReader(x.body))
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = "//" + g.Addrs().HTTP + x.path // As it stands: no cleaning by the client.
	if x.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if !x.anonymous {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for k, v := range x.header {
		req.Header[k] = v
		if len(v) == 1 && v[0] == "" {
			req.Header.Del(k)
		}
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func check(t *testing.T, x exchange, res *http.Response, body string) {
	t.Helper()
	if res.StatusCode != x.status {
		t.Errorf("status %d, want %d: %s", res.StatusCode, x.status, body)
	}
	for _, s := range x.contains {
		if !strings.Contains(strings.ReplaceAll(body, `": `, `":`), s) {
			t.Errorf("body lacks %q: %s", s, body)
		}
	}
	for _, s := range x.lacks {
		if strings.Contains(body, s) {
			t.Errorf("body has %q: %s", s, body)
		}
	}
	for k, v := range x.answer {
		if got := res.Header.Get(k); got != v {
			t.Errorf("header %s %q, want %q", k, got, v)
		}
	}
	if res.StatusCode >= 400 && x.method != "HEAD" {
		var p struct {
			Status int
			Code   string
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil || p.Status != res.StatusCode || p.Code == "" || res.Header.Get("Content-Type") != ctProblem {
			t.Errorf("no problem+json: %s %s", res.Header.Get("Content-Type"), body)
		}
	}
	if res.Header.Get("X-Request-Id") == "" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers: %v", res.Header)
	}
}

func httpExchanges() []exchange {
	echo := "/test/v1/echo/e1"
	field := func(name string) []string { return []string{`"INVALID_ARGUMENT"`, `"field":"` + name + `"`} }
	goText := []string{"proto:", "json:", "invalid character", "strconv", "unmarshal", "parsing", "syntax error"}
	return []exchange{
		{name: "path parameter and body", method: "POST", path: echo, body: `{"inner":{"tags":["a"]}}`, status: 200, contains: []string{`"id":"e1"`, `"tags":["a"]`, `"index":0`, `"scopes":["test.write"]`}, lacks: []string{"null"}, answer: map[string]string{"Content-Type": "application/json"}},
		{name: "additional binding", method: "GET", path: echo, status: 200, contains: []string{`"id":"e1"`}},
		{name: "body of one field", method: "PUT", path: echo + ":kinds", body: `{"fInt64":"7","other_name":"x"}`, status: 400, contains: field("kinds.other_name")},
		{name: "both forms of names", method: "PUT", path: echo + ":kinds", body: `{"f_int64":"7","otherName":"x"}`, status: 200, contains: []string{`"fInt64":"7"`, `"otherName":"x"`}},
		{name: "response_body", method: "GET", path: "/test/v1/names?count=2", status: 200, contains: []string{`["n0",`}, lacks: []string{"hidden", "secret"}},
		{name: "variable of several segments", method: "GET", path: "/test/v1/shelves/s1/books/b/1", status: 200, contains: []string{`"name":"shelves/s1/books/b/1"`}},
		{name: "nested query", method: "GET", path: echo + "?inner.number=5&inner.tags=a&inner.tags=b&kinds.w_timestamp=2026-01-01T00:00:00Z", status: 200, contains: []string{`"number":5`, `"tags":["a",`, `2026-01-01T00:00:00Z`}},
		{name: "204 has no body", method: "POST", path: "/test/v1/nothing", body: `{"inner":{"owner":"ada"}}`, status: 204, answer: map[string]string{"Content-Type": ""}},
		{name: "owner of another", method: "POST", path: "/test/v1/nothing", body: `{"inner":{"owner":"bob"}}`, status: 403, contains: []string{"NOT_OWNER"}},
		{name: "no owner at all", method: "POST", path: "/test/v1/nothing", body: `{}`, status: 403},
		{name: "stream of bytes", method: "GET", path: "/test/v1/download?count=2&padding=3", status: 200, contains: []string{"dddddd"}, answer: map[string]string{"Content-Type": "text/plain"}},

		{name: "no such path", method: "GET", path: "/nowhere", status: 404, contains: []string{`"NOT_FOUND"`}},
		{name: "another method", method: "DELETE", path: echo, status: 405, answer: map[string]string{"Allow": "GET, HEAD, POST, OPTIONS"}},
		{name: "an unknown method", method: "BREW", path: echo, status: 405},
		{name: "HEAD", method: "HEAD", path: echo, status: 200, answer: map[string]string{"Content-Type": "application/json"}},
		{name: "HEAD of a stream", method: "HEAD", path: "/test/v1/down", status: 405},
		{name: "OPTIONS", method: "OPTIONS", path: echo, anonymous: true, status: 204, answer: map[string]string{"Allow": "GET, HEAD, POST, OPTIONS"}},
		{name: "OPTIONS of nothing", method: "OPTIONS", path: "/nowhere", status: 404},
		{name: "a form does not reach a GET handler", method: "POST", path: "/test/v1/names", body: "count=1", header: h("Content-Type", "application/x-www-form-urlencoded"), status: 405},
		{name: "no method override", method: "POST", path: "/test/v1/names", header: h("X-Http-Method-Override", "GET"), status: 405},
		{name: "docs answer OPTIONS", method: "OPTIONS", path: "/docs", status: 204, answer: map[string]string{"Allow": "GET, HEAD, OPTIONS"}},
		{name: "docs take no POST", method: "POST", path: "/openapi.json", status: 405, answer: map[string]string{"Allow": "GET, HEAD, OPTIONS"}},
		{name: "nothing below the docs", method: "GET", path: "/docs/nope", status: 404},
		{name: "trailing slash", method: "GET", path: "/test/v1/echo/", status: 404},

		{name: "not JSON", method: "POST", path: echo, body: "a=1", header: h("Content-Type", "application/x-www-form-urlencoded"), status: 415},
		{name: "compressed", method: "POST", path: echo, body: "{}", header: h("Content-Encoding", "br"), status: 415},
		{name: "compressed, it says", method: "POST", path: echo, body: "{}", header: h("Content-Encoding", "gzip"), status: 400, contains: []string{"BODY_NOT_GZIP"}},
		{name: "JSON with a charset", method: "POST", path: echo, body: "{}", header: h("Content-Type", "application/json; charset=utf-8"), status: 200},
		{name: "no content type", method: "POST", path: echo, body: "{}", header: h("Content-Type", ""), status: 200},
		{name: "empty body", method: "POST", path: echo, status: 200},
		{name: "too large", method: "POST", path: echo, body: `{"failMessage":"` + strings.Repeat("x", 1<<20) + `"}`, status: 413, contains: []string{"1048576"}},
		{name: "broken JSON", method: "POST", path: echo, body: "{\n \"id\": ]", status: 400, contains: append(field("body"), "line 2, column 8"), lacks: goText},
		{name: "JSON cut short", method: "POST", path: echo, body: `{"id":`, status: 400, contains: field("body"), lacks: goText},
		{name: "something after the JSON", method: "POST", path: echo, body: `{} x`, status: 400, contains: field("body"), lacks: goText},
		{name: "an array for an object", method: "POST", path: echo, body: `[]`, status: 400, contains: field("body"), lacks: goText},
		{name: "null for an object", method: "POST", path: echo, body: `null`, status: 400, contains: field("body"), lacks: goText},
		{name: "unknown field", method: "POST", path: echo, body: `{"nope":1}`, status: 400, contains: append(field("nope"), "unknown field"), lacks: goText},
		{name: "unknown field deep inside", method: "POST", path: echo, body: `{"kinds":{"rMessage":[{},{"nope":1}]}}`, status: 400, contains: field("kinds.r_message[1].nope"), lacks: goText},
		{name: "wrong type", method: "POST", path: echo, body: `{"kinds":{"fInt32":"many"}}`, status: 400, contains: append(field("kinds.f_int32"), "32-bit integer"), lacks: goText},
		{name: "number too large", method: "POST", path: echo, body: `{"kinds":{"rInt32":[1,2147483648]}}`, status: 400, contains: field("kinds.r_int32[1]"), lacks: goText},
		{name: "wrong enum", method: "POST", path: echo, body: `{"kinds":{"fEnum":"GREEN"}}`, status: 400, contains: append(field("kinds.f_enum"), "COLOR_RED"), lacks: goText},
		{name: "wrong time", method: "POST", path: echo, body: `{"kinds":{"wTimestamp":"yesterday"}}`, status: 400, contains: append(field("kinds.w_timestamp"), "RFC 3339"), lacks: goText},
		{name: "wrong map value", method: "POST", path: echo, body: `{"kinds":{"mBool":{"true":"GREEN"}}}`, status: 400, contains: field("kinds.m_bool[true]"), lacks: goText},
		{name: "wrong map key", method: "POST", path: echo, body: `{"kinds":{"mInt64":{"x":{}}}}`, status: 400, contains: field("kinds.m_int64"), lacks: goText},
		{name: "a field twice", method: "POST", path: echo, body: `{"failCode":0,"fail_code":0}`, status: 400, contains: field("body"), lacks: goText},
		{name: "nested too deeply", method: "POST", path: echo, body: strings.Repeat(`{"kinds":{"fMessage":`, 1) + strings.Repeat(`{"fMessage":`, 100) + "{}" + strings.Repeat("}", 102), status: 400, lacks: goText},
		{name: "unknown query parameter", method: "GET", path: echo + "?nope=1", status: 400, contains: append(field("nope"), "unknown query parameter")},
		{name: "query parameter of the wrong type", method: "GET", path: echo + "?fail_code=x", status: 400, contains: field("fail_code"), lacks: goText},
		{name: "query parameter twice", method: "GET", path: echo + "?padding=1&padding=2", status: 400, contains: append(field("padding"), "more than once"), lacks: goText},
		{name: "query parameter under both names", method: "GET", path: echo + "?fail_code=0&failCode=0", status: 400, contains: []string{"names the same field"}, lacks: goText},
		{name: "query parameter that the path gives", method: "GET", path: echo + "?id=other", status: 400, contains: append(field("id"), "taken from the path")},
		{name: "query beside a whole body", method: "POST", path: echo + "?padding=1", body: "{}", status: 400, contains: field("padding")},
		{name: "query parameter for a message", method: "GET", path: echo + "?inner=x", status: 400, contains: field("inner")},
		{name: "query parameter beside a part of it", method: "GET", path: echo + "?kinds.w_timestamp=2026-01-01T00:00:00Z&kinds.wTimestamp.seconds=5", status: 400, contains: append(field("kinds.w_timestamp"), "beside a part of it, kinds.wTimestamp.seconds")},
		{name: "semicolon in the query", method: "GET", path: echo + "?padding=1;fail_code=5", status: 400, contains: field("query"), lacks: goText},
		{name: "Grpc-Timeout twice", method: "GET", path: echo, header: http.Header{"Grpc-Timeout": {"1S", "9S"}}, status: 400, contains: field("Grpc-Timeout")},
		{name: "broken query", method: "GET", path: echo + "?a=%zz", status: 400, contains: field("query"), lacks: goText},

		{name: "encoded slash", method: "GET", path: "/test/v1/echo/a%2fb", status: 400},
		{name: "encoded dots", method: "GET", path: "/test/v1/echo/%2e%2e", status: 400},
		{name: "dots", method: "GET", path: "/test/v1/echo/../names", status: 400},
		{name: "NUL", method: "GET", path: "/test/v1/echo/a%00", status: 400},
		{name: "overlong UTF-8", method: "GET", path: "/test/v1/echo/%C0%AE", status: 400},
		{name: "double slash", method: "GET", path: "/test/v1//echo/a", status: 400},
		{name: "backslash", method: "GET", path: `/test/v1/echo/a%5Cb`, status: 400},

		{name: "no credential", method: "GET", path: echo, anonymous: true, status: 401, answer: map[string]string{"Www-Authenticate": `Bearer realm="sluice"`}},
		{name: "a bad credential", method: "GET", path: echo, anonymous: true, header: h("Authorization", "Bearer x.y.z"), status: 401, answer: map[string]string{"Www-Authenticate": `Bearer realm="sluice", error="invalid_token"`}},
		{name: "bare errors do not leak", method: "GET", path: echo + "?bare_error=true", status: 500, contains: []string{`"INTERNAL"`}, lacks: []string{"hunter2", "pq"}},
		{name: "internal errors do not leak", method: "GET", path: echo + "?fail_code=13&fail_message=hunter2", status: 500, lacks: []string{"hunter2"}},
		{name: "unknown errors do not leak", method: "GET", path: echo + "?fail_code=2&fail_message=hunter2", status: 500, lacks: []string{"hunter2"}},
		{name: "a service's UNAUTHENTICATED is not the caller's", method: "GET", path: echo + "?fail_code=16", status: 500},
		{name: "unavailable", method: "GET", path: echo + "?fail_code=14&fail_message=10.0.0.7", status: 503, lacks: []string{"10.0.0.7"}, answer: map[string]string{"Retry-After": "1"}},
		{name: "exhausted", method: "GET", path: echo + "?fail_code=8", status: 429, answer: map[string]string{"Retry-After": "1"}},
		{name: "aborted", method: "GET", path: echo + "?fail_code=10&fail_message=stale", status: 409, contains: []string{"stale", `"ABORTED"`}},
		{name: "unimplemented by the service", method: "GET", path: echo + "?fail_code=12", status: 501},
		{name: "a panic is the call's", method: "GET", path: echo + "?panic=true", status: 500, lacks: []string{"asked to"}},
		{name: "a panic in a stream", method: "GET", path: "/test/v1/down?count=1&panic=true", status: 200, contains: []string{`{"error":{`, `"INTERNAL"`}, lacks: []string{"asked to"}},
		{name: "an answer too large", method: "GET", path: echo + "?padding=17000000", status: 502, contains: []string{"BAD_UPSTREAM_RESPONSE"}},

		{name: "stream", method: "GET", path: "/test/v1/down?count=2", status: 200, contains: []string{`{"result":{`, `"index":1`}, answer: map[string]string{"Content-Type": "application/x-ndjson"}},
		{name: "stream that fails at once", method: "GET", path: "/test/v1/down?fail_code=5", status: 404, contains: []string{`"NOT_FOUND"`}, lacks: []string{`"error":`, "RequestInfo"}},
		{name: "stream that fails with an answer too large", method: "GET", path: "/test/v1/down?count=1&padding=17000000", status: 502, contains: []string{`"status":502`}},
		{name: "stream that fails unavailable at once", method: "GET", path: "/test/v1/down?fail_code=14", status: 503, answer: map[string]string{"Retry-After": "1"}},
		{name: "stream that fails later", method: "GET", path: "/test/v1/down?count=1&fail_code=5", status: 200, contains: []string{`{"result":{`, `{"error":{`, `"NOT_FOUND"`}, lacks: []string{"RequestInfo"}},
		{name: "silent stream", method: "GET", path: "/test/v1/down?count=2&gap=30s", status: 200, contains: []string{`{"error":{`, `"DEADLINE_EXCEEDED"`, "silent"}},
		{name: "stream that grows old", method: "GET", path: "/test/v1/down?count=10000&gap=0.5s", status: 200, contains: []string{`{"error":{`, `"DEADLINE_EXCEEDED"`, "maximum age"}},
		{name: "client stream over REST", method: "POST", path: "/test/v1/up", body: `{"id":"a"}{"id":"b"} {"id":"c"}`, status: 200, contains: []string{`"index":3`}},
		{name: "both streams over REST", method: "POST", path: "/test/v1/chat", body: `{"id":"a"}{"id":"b"}`, status: 200, contains: []string{`"id":"a"`, `"id":"b"`}},

		{name: "too late", method: "GET", path: echo + "?delay=5s", status: 504, contains: []string{`"DEADLINE_EXCEEDED"`}},
		{name: "Grpc-Timeout shortens", method: "GET", path: echo, header: h("Grpc-Timeout", "300m"), status: 200, lacks: []string{`"deadlineMs":"9`, `"deadlineMs":"3`}},
		{name: "Grpc-Timeout does not lengthen", method: "GET", path: echo, header: h("Grpc-Timeout", "8760H"), status: 200, contains: []string{`"deadlineMs":"9`}},
		{name: "Grpc-Timeout that is none", method: "GET", path: echo, header: h("Grpc-Timeout", "soon"), status: 400, contains: field("Grpc-Timeout")},
		{name: "request id is kept", method: "GET", path: echo, header: h("X-Request-Id", "abc-1"), status: 200, contains: []string{`"x-request-id":"abc-1"`}, answer: map[string]string{"X-Request-Id": "abc-1"}},
		{name: "traceparent goes on", method: "GET", path: echo, header: h("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), status: 200, contains: []string{"00-0af7651916cd43dd8448eb211c80319c-"}},
		{name: "nothing of a caller's reaches a service", method: "GET", path: echo,
			header: h("X-Forwarded-For", "6.6.6.6", "X-Forwarded-Host", "evil", "Grpc-Metadata-X-User-Id", "admin", "X-User-Id", "admin", "X-Sluice-Assertion", "forged", "Cookie", "c=1", "Grpc-Metadata-X-Sluice-Assertion", "forged"),
			status: 200, contains: []string{`"subject":"ada"`}, lacks: []string{"6.6.6.6", "evil", "admin", "forged", "authorization", "cookie", "127.0.0.1"}},
	}
}

// TestRequestIDThatCannotBe: what a log line should not hold is replaced.
func TestRequestIDThatCannotBe(t *testing.T) {
	g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(nil)))
	for _, id := range []string{"a b", "é", strings.Repeat("x", 129)} {
		res, _ := do(t, g, "", exchange{method: "GET", path: "/test/v1/names", anonymous: true, header: h("X-Request-Id", id)})
		if got := res.Header.Get("X-Request-Id"); got == id || len(got) != 32 {
			t.Errorf("%q became %q", id, got)
		}
	}
}

// TestClientGoesAway: a caller that leaves cancels the call to the service.
func TestClientGoesAway(t *testing.T) {
	srv := &gatewaytest.Server{Ended: make(chan error, 1)}
	g := gatewaytest.Start(t, func(c *configv1.Config) {}, gateway.WithServices(gatewaytest.TestService(srv)))
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", g.URL+"/test/v1/echo/x?delay=0.9s", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+g.Token(t, "ada", ""))
	time.AfterFunc(100*time.Millisecond, cancel)
	if res, err := http.DefaultClient.Do(req); err == nil {
		res.Body.Close()
		t.Fatal("the call was answered")
	}
	select {
	case err := <-srv.Ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("service saw %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the service was not told")
	}
}
