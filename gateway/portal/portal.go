// Package portal serves the API's documentation: the OpenAPI document, which
// tools/openapi generates into gen/openapi, and a page (Swagger UI) that shows
// it and calls its operations. The page and all it needs are in the binary: it
// asks no other origin for anything, and its Content-Security-Policy says so to
// the browser. The gateway mounts it; portaltest drives it in a browser.
package portal

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/swaggest/swgui/v5emb"
)

const (
	// DocsPath is where the page is; its assets are below it.
	DocsPath = "/docs"
	// DocumentPath is where the OpenAPI document is.
	DocumentPath = "/openapi.json"
)

// Options say what to show.
type Options struct {
	// Title of the page. Default "API".
	Title string
	// Document is the OpenAPI document as JSON. Required; not changed.
	Document []byte
}

// New makes the handler of /docs, what is below it, and /openapi.json. It answers
// GET and HEAD, other methods with 405, other paths with 404. It needs no
// credential and keeps no state: any number of requests may use it at once.
func New(o Options) (http.Handler, error) {
	if !json.Valid(o.Document) {
		return nil, errors.New("portal: the document is not JSON")
	}
	if o.Title == "" {
		o.Title = "API"
	}
	ui := v5emb.New(o.Title, DocumentPath, DocsPath+"/")
	page, err := render(ui)
	if err != nil {
		return nil, err
	}
	docs := resource{contentType: "text/html; charset=utf-8", content: page, etag: etag(page)}
	document := resource{contentType: "application/json", content: o.Document, etag: etag(o.Document)}

	mux := http.NewServeMux()
	policy := contentSecurityPolicy(page)
	mux.Handle(DocsPath, secured(policy, docs))
	mux.Handle(DocsPath+"/{$}", secured(policy, docs))
	mux.Handle(DocsPath+"/", secured(policy, ui))
	mux.Handle(DocumentPath, secured("default-src 'none'; frame-ancestors 'none'", document))
	return readOnly(mux), nil
}

// readOnly refuses what would change something: there is nothing to change.
func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func secured(policy string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}

// resource is something that does not change while the process runs. Clients ask
// each time whether it is still the same, so that a new version shows at once.
type resource struct {
	contentType, etag string
	content           []byte
}

func (s resource) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", s.contentType)
	h.Set("ETag", s.etag)
	h.Set("Cache-Control", "no-cache")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.content))
}

func etag(content []byte) string {
	sum := sha256.Sum256(content)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

var inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)

// contentSecurityPolicy allows the page's own scripts, the inline ones by their
// hashes (CSP level 3), and calls to its own origin. Swagger UI sets style
// attributes, and shows binary answers from blob: URLs.
func contentSecurityPolicy(page []byte) string {
	scripts := []string{"'self'"}
	for _, m := range inlineScript.FindAllSubmatch(page, -1) {
		sum := sha256.Sum256(m[1])
		scripts = append(scripts, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	return strings.Join([]string{
		"default-src 'none'",
		"script-src " + strings.Join(scripts, " "),
		"style-src 'self' 'unsafe-inline'",
		"img-src 'self' data: blob:",
		"connect-src 'self'",
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
	}, "; ")
}

// render makes the page once, for it is the same for everyone.
func render(ui http.Handler) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, DocsPath+"/", nil)
	if err != nil {
		return nil, fmt.Errorf("portal: %w", err)
	}
	out := &capture{header: http.Header{}, status: http.StatusOK}
	ui.ServeHTTP(out, req)
	if out.status != http.StatusOK || out.Len() == 0 {
		return nil, fmt.Errorf("portal: the page does not render: status %d, %d bytes", out.status, out.Len())
	}
	return out.Bytes(), nil
}

// capture is a ResponseWriter into memory.
type capture struct {
	bytes.Buffer
	header http.Header
	status int
}

func (c *capture) Header() http.Header { return c.header }

func (c *capture) WriteHeader(status int) { c.status = status }
