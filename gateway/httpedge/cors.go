package httpedge

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rs/cors"
)

// CORSOptions say which pages of other origins may call (the Fetch standard).
type CORSOptions struct {
	// AllowedOrigins are origins such as `https://app.example.com`, compared byte
	// by byte in lower case. One `*` in the host stands for one or more characters
	// of one label, never for a dot: `https://*.example.com`,
	// `https://preview-*.example.com`. `*` alone means every origin but `null`,
	// which must be listed by name.
	AllowedOrigins []string
	// AllowCredentials lets pages send cookies and client certificates. Not with
	// the origin `*`, nor with `null`.
	AllowCredentials bool
	// AllowedHeaders are request headers that pages may send, beside Authorization,
	// Content-Type, Idempotency-Key, X-API-Key and X-Request-ID.
	AllowedHeaders []string
	// MaxAge is how long browsers may remember a preflight; 0 means 10 minutes, less
	// than 0 not at all.
	MaxAge time.Duration
}

var (
	corsRequestHeaders = []string{"Authorization", "Content-Type", "Idempotency-Key", "X-API-Key", "X-Request-ID"}
	corsExposedHeaders = []string{"X-Request-Id", "RateLimit", "RateLimit-Policy", "Retry-After", "Idempotency-Replayed", "Location", "WWW-Authenticate", "ETag", "Age"}
)

// crossOrigin answers what browsers ask about pages of other origins.
type crossOrigin struct {
	cors        *cors.Cors
	origins     origins
	credentials bool
}

// newCrossOrigin checks the options; methods are those of all routes, exposed the headers
// that services say more by.
func newCrossOrigin(o *CORSOptions, methods, exposed []string) (*crossOrigin, error) {
	if o == nil {
		return nil, nil
	}
	c := &crossOrigin{credentials: o.AllowCredentials}
	var err error
	if c.origins, err = newOrigins(o); err != nil {
		return nil, fmt.Errorf("httpedge: cors: %w", err)
	}
	for _, h := range o.AllowedHeaders {
		if h == "" || strings.Trim(h, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
			return nil, fmt.Errorf("httpedge: cors: %q is no header's name", h)
		}
	}
	maxAge := int(o.MaxAge / time.Second)
	if o.MaxAge == 0 {
		maxAge = 600
	}
	co := cors.Options{
		AllowedMethods: methods, AllowedHeaders: slices.Concat(corsRequestHeaders, o.AllowedHeaders), ExposedHeaders: slices.Concat(corsExposedHeaders, exposed),
		AllowCredentials: o.AllowCredentials, MaxAge: maxAge,
	}
	if c.origins.any {
		co.AllowedOrigins = []string{"*"}
	} else {
		co.AllowOriginVaryRequestFunc = func(r *http.Request, origin string) (bool, []string) {
			return len(r.Header["Origin"]) == 1 && c.origins.allow(origin), nil
		}
	}
	c.cors = cors.New(co)
	return c, nil
}

var varyOrigin = []string{"Origin"}

// mark puts the CORS headers on an answer, before it is known what it will be:
// a page must be able to read its 401 and its 429, too. A nil crossOrigin puts
// on none.
func (c *crossOrigin) mark(x *Exchange) {
	if c == nil {
		return
	}
	if c.origins.any && !c.origins.null && x.Request.Header.Get("Origin") == "null" {
		x.w.Header()["Vary"] = varyOrigin
		return
	}
	c.cors.ServeHTTP(headersOnly{x.w}, x.Request, nothing)
}

// headersOnly keeps the library from answering a preflight: the edge does,
// once it knows the path.
type headersOnly struct{ http.ResponseWriter }

func (headersOnly) WriteHeader(int) {}

func nothing(http.ResponseWriter, *http.Request) {}

// Preflight returns the method that a browser asks for on behalf of a page of another
// origin, where pages of others may call at all.
func (x *Exchange) Preflight() (method string, ok bool) {
	h := x.Request.Header
	method = h.Get("Access-Control-Request-Method")
	return method, x.server.cors != nil && method != "" && h.Get("Origin") != ""
}

// preflight corrects the answer to a preflight, when it is one: the methods are
// those of the path.
func (c *crossOrigin) preflight(h http.Header, allow string) {
	if c != nil && len(h["Access-Control-Allow-Methods"]) > 0 {
		h["Access-Control-Allow-Methods"] = []string{allow}
	}
}

// origins are compiled patterns.
type origins struct {
	any, null bool
	exact     map[string]bool
	patterns  []originPattern
}

type originPattern struct{ before, after string }

func newOrigins(o *CORSOptions) (origins, error) {
	s := origins{exact: map[string]bool{}}
	if len(o.AllowedOrigins) == 0 {
		return s, errors.New("no origin is allowed: leave it out instead")
	}
	for _, origin := range o.AllowedOrigins {
		switch origin = strings.ToLower(origin); origin {
		case "*", "null":
			if o.AllowCredentials {
				return s, fmt.Errorf("credentials need origins by name, not %s", origin)
			}
			s.any, s.null = s.any || origin == "*", s.null || origin == "null"
			s.exact[origin] = origin == "null"
			continue
		}
		if err := checkOrigin(origin); err != nil {
			return s, fmt.Errorf("%q: %w", origin, err)
		}
		if before, after, found := strings.Cut(origin, "*"); found {
			s.patterns = append(s.patterns, originPattern{before, after})
		} else {
			s.exact[origin] = true
		}
	}
	return s, nil
}

// checkOrigin refuses what is no origin as browsers send it, and patterns that
// would let in a whole top-level domain.
func checkOrigin(origin string) error {
	u, err := url.Parse(strings.Replace(origin, "*", "w", 1))
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" || u.Scheme+"://"+u.Host != strings.Replace(origin, "*", "w", 1) ||
		strings.HasSuffix(u.Host, ":") {
		return errors.New("must be scheme://host[:port], with at most one * in the host")
	}
	_, after, found := strings.Cut(origin, "*")
	if !found {
		return nil
	}
	host, _, _ := strings.Cut(after, ":")
	_, parent, dotted := strings.Cut(host, ".")
	if strings.Contains(after, "*") || strings.Contains(u.Port(), "w") || !dotted || !strings.Contains(strings.Trim(parent, "."), ".") {
		return errors.New("the * must stand in one label before a domain of two or more, such as https://*.example.com")
	}
	return nil
}

// allow compares an origin as it was sent: browsers send it in lower case.
func (s *origins) allow(origin string) bool {
	if s.exact[origin] {
		return true
	}
	for _, p := range s.patterns {
		if len(origin) > len(p.before)+len(p.after) && strings.HasPrefix(origin, p.before) && strings.HasSuffix(origin, p.after) &&
			isLabelPart(origin[len(p.before):len(origin)-len(p.after)]) {
			return true
		}
	}
	return false
}

// isLabelPart says whether s is made of what a label of a host has.
func isLabelPart(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}
