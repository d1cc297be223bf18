package rest

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

const echoPath = "/test/v1/echo/e1"

// TestBounds: each bound of the edge lets pass what is just within it, refuses
// what is just beyond, by its name and its reason, and counts it.
func TestBounds(t *testing.T) {
	params := func(n int) string {
		return echoPath + "?" + strings.TrimSuffix(strings.Repeat("inner.tags=a&", n), "&")
	}
	nested := func(n int) string { // n objects and arrays in each other.
		return strings.Repeat(`{"inner":`, n-1) + "{}" + strings.Repeat("}", n-1)
	}
	request := func(method, target, body string, kv ...string) *http.Request {
		r := httptest.NewRequest(method, target, strings.NewReader(body))
		for i := 0; i < len(kv); i += 2 {
			r.Header.Add(kv[i], kv[i+1])
		}
		return r
	}
	many := func(n int) *http.Request {
		r := request("GET", echoPath, "")
		for i := range n / 2 {
			r.Header["X-"+strconv.Itoa(i)] = []string{"a", "b"}
		}
		return r
	}
	url := func(n int) *http.Request {
		return request("GET", echoPath+"?padding="+strings.Repeat("0", n-len(echoPath+"?padding=")), "")
	}
	host := func(h string) *http.Request {
		r := request("GET", echoPath, "")
		r.Host = h
		return r
	}
	for name, tc := range map[string]struct {
		r      *http.Request
		status int
		reason string
		limit  string
	}{
		"as many headers as go":        {many(100), 200, "", ""},
		"a header too many":            {many(102), 431, "TOO_MANY_HEADERS", "header_count"},
		"a URL as long as goes":        {url(8192), 200, "", ""},
		"a URL too long":               {url(8193), 414, "URL_TOO_LONG", "url_bytes"},
		"as many parameters as go":     {request("GET", params(100), ""), 200, "", ""},
		"a parameter too many":         {request("GET", params(101), ""), 400, "TOO_MANY_QUERY_PARAMETERS", "query_parameters"},
		"empty parameters count":       {request("GET", echoPath+"?"+strings.Repeat("&", 100), ""), 400, "TOO_MANY_QUERY_PARAMETERS", "query_parameters"},
		"also where nothing is":        {request("GET", "/nowhere?"+strings.Repeat("&", 100), ""), 400, "TOO_MANY_QUERY_PARAMETERS", "query_parameters"},
		"JSON as deep as goes":         {request("POST", echoPath, nested(64)), 200, "", ""},
		"JSON too deep":                {request("POST", echoPath, nested(65)), 400, "JSON_TOO_DEEP", "json_depth"},
		"JSON that never ends":         {request("POST", echoPath, strings.Repeat("[", 60000)), 400, "JSON_TOO_DEEP", "json_depth"},
		"brackets in a string":         {request("POST", echoPath, `{"failMessage":"\"`+strings.Repeat("[{", 1000)+`\\"}`), 200, "", ""},
		"a body as large as goes":      {request("POST", echoPath, `{"failMessage":"`+strings.Repeat("x", 1<<16-18)+`"}`), 200, "", ""},
		"a body too large":             {request("POST", echoPath, `{"failMessage":"`+strings.Repeat("x", 1<<16-17)+`"}`), 413, "BODY_TOO_LARGE", "body_bytes"},
		"a form":                       {request("POST", echoPath, "a=1", "Content-Type", "application/x-www-form-urlencoded"), 415, "UNSUPPORTED_MEDIA_TYPE", "media_type"},
		"two content types":            {request("POST", echoPath, "{}", "Content-Type", "application/json", "Content-Type", "text/plain"), 415, "UNSUPPORTED_MEDIA_TYPE", "media_type"},
		"an unknown encoding":          {request("POST", echoPath, "{}", "Content-Encoding", "br"), 415, "UNSUPPORTED_ENCODING", "encoding"},
		"two encodings":                {request("POST", echoPath, "{}", "Content-Encoding", "gzip, gzip"), 415, "UNSUPPORTED_ENCODING", "encoding"},
		"two lines of encodings":       {request("POST", echoPath, "{}", "Content-Encoding", "gzip", "Content-Encoding", "gzip"), 415, "UNSUPPORTED_ENCODING", "encoding"},
		"identity":                     {request("POST", echoPath, "{}", "Content-Encoding", "Identity"), 200, "", ""},
		"not gzip":                     {request("POST", echoPath, "{}", "Content-Encoding", "gzip"), 400, "BODY_NOT_GZIP", "encoding"},
		"an encoded slash":             {request("GET", "/test/v1/echo/a%2fb", ""), 400, "PATH_REFUSED", "path"},
		"a Host":                       {host("[2001:db8::1]:8080"), 200, "", ""},
		"a Host with user information": {host("ada@example.com"), 400, "HOST_REFUSED", "host"},
		"a Host with a path":           {host("example.com/x"), 400, "HOST_REFUSED", "host"},
		"a Host that breaks the line":  {host("example.com\r\nx"), 400, "HOST_REFUSED", "host"},
		"a Host too long":              {host(strings.Repeat("a", 264)), 400, "HOST_REFUSED", "host"},
		"a host field of another host": {request("GET", echoPath, "", "Host", "other.example.com"), 400, "HOST_REFUSED", "host"},
		"a host field of the same":     {request("GET", echoPath, "", "Host", "example.com"), 200, "", ""},
		"a query that is not UTF-8":    {request("GET", echoPath+"?inner.owner=%ff", ""), 400, "", ""},
		"a key that is not UTF-8":      {request("GET", echoPath+"?%ff=1", ""), 400, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, nil)
			a := e.do(t, tc.r)
			if a.status != tc.status || a.reason != tc.reason {
				t.Errorf("got %d %s, want %d %s: %s", a.status, a.reason, tc.status, tc.reason, a.body)
			}
			want := []string{tc.limit}
			if tc.limit == "" {
				want = nil
			}
			if !slices.Equal(e.refused(), want) {
				t.Errorf("counted %v, want %v", e.refused(), want)
			}
			if (a.status == 200) != (e.conn.called() == 1) {
				t.Errorf("%d, with %d calls", a.status, e.conn.called())
			}
			if enc := a.header.Get("Accept-Encoding"); (enc == "gzip") != (tc.reason == "UNSUPPORTED_ENCODING") {
				t.Errorf("Accept-Encoding %q", enc)
			}
		})
	}
}

// TestBoundsAreOptions: every bound that is an option is held to it.
func TestBoundsAreOptions(t *testing.T) {
	e := newEdge(t, func(o *edgeOptions) { o.MaxHeaders, o.MaxURLBytes, o.MaxQueryParameters, o.MaxJSONDepth = 2, 40, 1, 1 })
	three := httptest.NewRequest("GET", echoPath, nil)
	three.Header = http.Header{"A": {"1"}, "B": {"1", "2"}}
	for reason, r := range map[string]*http.Request{
		"TOO_MANY_HEADERS":          three,
		"URL_TOO_LONG":              httptest.NewRequest("GET", "/"+strings.Repeat("a", 40), nil),
		"TOO_MANY_QUERY_PARAMETERS": httptest.NewRequest("GET", "/a?b&c", nil),
		"JSON_TOO_DEEP":             httptest.NewRequest("POST", echoPath, strings.NewReader(`{"inner":{}}`)),
	} {
		if a := e.do(t, r); a.reason != reason {
			t.Errorf("got %d %s, want %s", a.status, a.reason, reason)
		}
	}
	for _, change := range []func(*edgeOptions){
		func(o *edgeOptions) { o.MaxHeaders = -1 }, func(o *edgeOptions) { o.MaxURLBytes = -1 }, func(o *edgeOptions) { o.MaxQueryParameters = -1 }, func(o *edgeOptions) { o.MaxJSONDepth = -1 },
	} {
		o := edgeOptions{Catalogue: testTable(t)}
		change(&o)
		if _, _, err := newServers(&o); err == nil {
			t.Error("a negative bound is taken")
		}
	}
}

// TestIdempotencyKeyIsText: a header may hold bytes that a protobuf string may
// not.
func TestIdempotencyKeyIsText(t *testing.T) {
	x := asking(bindingOf(t, "POST"), httptest.NewRequest("POST", "/", nil))
	rule := x.binding.Method.Rule
	rule.IdempotencyKey = x.binding.Method.Descriptor.Input().Fields().ByName("fail_message")
	method := *x.binding.Method
	method.Rule = rule
	x.binding.Method = &method
	for key, ok := range map[string]bool{"k-1": true, "\xff": false, "": false} {
		x.Request.Header = http.Header{"Idempotency-Key": {key}}
		if err := x.fillIdempotencyKey(&testv1.EchoRequest{}); (err == nil) != ok {
			t.Errorf("%q: %v", key, err)
		}
	}
}
