package rest

import (
	"mime"
	"net/http"
	"strings"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/schema"
)

// Headers made once; nobody writes into them.
var (
	// rawPolicy is for bytes that callers uploaded: in a sandbox a picture shows,
	// and a script in an SVG does not run.
	rawPolicy  = []string{"default-src 'none'; frame-ancestors 'none'; sandbox"}
	attachment = []string{"attachment"}
	octets     = []string{"application/octet-stream"}
	// noCache is for what anyone may see: kept, but not used without asking again.
	noCache = []string{"no-cache"}
)

// dress puts on what only a success has.
func (x *exchange) dress() {
	h := x.Header()
	if x.sent {
		x.binding.masks.mark(h)
	}
	if x.binding.raw {
		h["Content-Security-Policy"] = rawPolicy
		t := h.Get("Content-Type")
		if t == "" {
			h["Content-Type"] = octets // Nobody shall guess.
		}
		if !inert(t) {
			h["Content-Disposition"] = attachment
		}
	}
	get := x.Request.Method == http.MethodGet || x.Request.Method == http.MethodHead
	if get && x.binding.Method.Rule.Public && x.Call.Principal == policy.Anonymous && h.Get("Cache-Control") == httpedge.NoStore {
		h["Cache-Control"] = noCache
	}
}

// inert says whether a browser may show a media type under our origin: it has
// no scripts, forms or links.
func inert(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	switch t {
	case "image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp", "text/plain", "application/json", "application/x-ndjson":
		return true
	}
	return strings.HasPrefix(t, "audio/") || strings.HasPrefix(t, "video/")
}

// answersRaw says whether a binding's answer is a google.api.HttpBody.
func answersRaw(b *schema.Binding) bool {
	md := b.Method.Descriptor.Output()
	if b.ResponseField != nil {
		md = b.ResponseField.Message()
	}
	return md != nil && md.FullName() == httpBodyName
}
