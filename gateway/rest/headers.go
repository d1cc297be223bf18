package rest

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/schema"
)

// Headers that are the same on every answer, made once; nobody writes into
// them. An answer is for programs: a browser that is led to show one shows
// nothing, runs nothing and is framed by nobody.
var (
	nosniff    = []string{"nosniff"}
	deny       = []string{"DENY"}
	noReferrer = []string{"no-referrer"}
	apiPolicy  = []string{"default-src 'none'; frame-ancestors 'none'"}
	// rawPolicy is for bytes that callers uploaded: in a sandbox a picture shows,
	// and a script in an SVG does not run.
	rawPolicy  = []string{"default-src 'none'; frame-ancestors 'none'; sandbox"}
	attachment = []string{"attachment"}
	octets     = []string{"application/octet-stream"}
	// noStore is for what one caller alone may see, and for every failure.
	noStore = []string{"no-store"}
	// noCache is for what anyone may see: kept, but not used without asking again.
	noCache   = []string{"no-cache"}
	connClose = []string{"close"}
)

func hsts(maxAge time.Duration) []string {
	if maxAge <= 0 {
		return nil
	}
	return []string{"max-age=" + strconv.FormatInt(int64(maxAge/time.Second), 10)}
}

// setHeaders puts on what every answer has, whatever becomes of the request.
func (x *exchange) setHeaders(old bool) {
	h := x.w.Header()
	x.annotate("X-Request-Id", x.observed.ID)
	h["X-Content-Type-Options"] = nosniff
	h["X-Frame-Options"] = deny
	h["Content-Security-Policy"] = apiPolicy
	h["Referrer-Policy"] = noReferrer
	h["Cache-Control"] = noStore
	if x.r.TLS != nil && x.server.hsts != nil {
		h["Strict-Transport-Security"] = x.server.hsts
	}
	if old {
		h["Connection"] = connClose // HTTP/2 makes a GOAWAY of it.
	}
}

// annotate is Header.Add whose first values stand in the exchange: almost every
// answer has three, and a slice for each would be three allocations.
func (x *exchange) annotate(key, value string) {
	h := x.w.Header()
	if key = http.CanonicalHeaderKey(key); len(h[key]) > 0 || x.used == len(x.lines) {
		h[key] = append(h[key], value)
		return
	}
	h[key] = append(x.lines[x.used:x.used:x.used+1], value)
	x.used++
}

// dress puts on what only a success has.
func (x *exchange) dress() {
	h := x.w.Header()
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
	get := x.r.Method == http.MethodGet || x.r.Method == http.MethodHead
	if get && x.binding.Method.Rule.Public && x.call.Principal == policy.Anonymous && h.Get("Cache-Control") == noStore[0] {
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
