package portal_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/portal"
	"github.com/sluice-gateway/sluice/gen/openapi"
)

func newPortal(t *testing.T) http.Handler {
	t.Helper()
	h, err := portal.New(portal.Options{Title: "Sluice shop API", Document: openapi.Document})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func get(h http.Handler, method, target string, header http.Header) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	for k, v := range header {
		r.Header[k] = v
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestAnswers(t *testing.T) {
	h := newPortal(t)
	for _, c := range []struct {
		method, target string
		status         int
		contentType    string
		contains       string
	}{
		{"GET", "/docs", 200, "text/html; charset=utf-8", "<title>Sluice shop API"},
		{"GET", "/docs/", 200, "text/html; charset=utf-8", `src="/docs/swagger-ui-bundle.js"`},
		{"HEAD", "/docs", 200, "text/html; charset=utf-8", ""},
		{"GET", "/docs/swagger-ui-bundle.js", 200, "application/javascript", "SwaggerUIBundle"},
		{"GET", "/docs/swagger-ui.css", 200, "text/css; charset=utf-8", ".swagger-ui"},
		{"GET", "/openapi.json", 200, "application/json", `"openapi": "3.1.0"`},
		{"HEAD", "/openapi.json", 200, "application/json", ""},
		{"GET", "/docs/nothing", 404, "text/plain; charset=utf-8", ""},
		{"GET", "/elsewhere", 404, "text/plain; charset=utf-8", ""},
		{"POST", "/docs", 405, "text/plain; charset=utf-8", ""},
		{"DELETE", "/openapi.json", 405, "text/plain; charset=utf-8", ""},
		{"PUT", "/docs/swagger-ui.css", 405, "text/plain; charset=utf-8", ""},
	} {
		t.Run(c.method+c.target, func(t *testing.T) {
			res := get(h, c.method, c.target, nil)
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != c.status || res.Header.Get("Content-Type") != c.contentType {
				t.Errorf("got %d %s, want %d %s", res.StatusCode, res.Header.Get("Content-Type"), c.status, c.contentType)
			}
			if !strings.Contains(string(body), c.contains) {
				t.Errorf("the body does not contain %q", c.contains)
			}
			if c.method == "HEAD" && len(body) > 0 {
				t.Errorf("HEAD answered %d bytes", len(body))
			}
			if allow := res.Header.Get("Allow"); (c.status == 405) != (allow == "GET, HEAD") {
				t.Errorf("Allow is %q", allow)
			}
		})
	}
}

func TestDocumentIsNotSentTwice(t *testing.T) {
	h := newPortal(t)
	for _, target := range []string{"/openapi.json", "/docs"} {
		tag := get(h, "GET", target, nil).Header.Get("ETag")
		if tag == "" {
			t.Fatalf("%s has no ETag", target)
		}
		if got := get(h, "GET", target, http.Header{"If-None-Match": {tag}}).StatusCode; got != 304 {
			t.Errorf("%s with its own ETag: %d, want 304", target, got)
		}
		if got := get(h, "GET", target, http.Header{"If-None-Match": {`"other"`}}).StatusCode; got != 200 {
			t.Errorf("%s with another ETag: %d, want 200", target, got)
		}
	}
}

// A script that is not the page's own must not run, wherever it comes from.
func TestContentSecurityPolicy(t *testing.T) {
	policy := get(newPortal(t), "GET", "/docs", nil).Header.Get("Content-Security-Policy")
	directives := map[string]string{}
	for d := range strings.SplitSeq(policy, "; ") {
		name, value, _ := strings.Cut(d, " ")
		directives[name] = value
	}
	if directives["default-src"] != "'none'" || directives["frame-ancestors"] != "'none'" || directives["connect-src"] != "'self'" {
		t.Errorf("policy: %s", policy)
	}
	script := directives["script-src"]
	if strings.Contains(script, "unsafe") || strings.Contains(script, "http") || strings.Count(script, "'sha256-") != 2 {
		t.Errorf("script-src: %s", script)
	}
}

func TestRefusesWhatIsNotADocument(t *testing.T) {
	for _, doc := range []string{"", "openapi: 3.1.0\n", "{"} {
		if _, err := portal.New(portal.Options{Document: []byte(doc)}); err == nil {
			t.Errorf("document %q was accepted", doc)
		}
	}
}
