package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// keeper is how the answers of a route are kept; nil where they are not.
type keeper struct {
	cache *cache.Cache
	route *cache.Route
	rule  *policy.Cache
	// shape is what else of the route an answer depends on: after a reload with another
	// one, what was kept by the old must not be found.
	shape string
	vary  []string
	tags  []*policy.Tag
	// sends are the caller's headers that a service gets for an answer that others are
	// given, too: what is not in the key must not shape it.
	sends  map[string]bool
	public bool     // others on the way may keep answers, too: they know all that answers depend on
	says   []string // what answers say that they vary by
}

// negotiated are the headers a service may choose an answer by as it says in Vary.
// Without that, it is not kept.
var negotiated = []string{"Accept", "Accept-Language"}

func (p *Proxy) compileCache(r Route, rule *policy.Rule, variables []string, request *headers.Program) (*keeper, error) {
	if rule.Cache == nil {
		return nil, nil //nolint:nilnil // No rule, nothing is kept.
	}
	k := &keeper{cache: p.o.Cache, rule: rule.Cache, public: rule.Cache.Public && rule.Public && !request.OfCaller() && len(p.o.Upstreams[r.Upstream].Canaries) == 0}
	// The Cache-Control of an answer is made when that is fetched, so the rule's times are a part of the shape.
	k.shape = fmt.Sprintf("%s %+v %+v %+v %+v %v %v", r.Upstream, r.Rewrite, r.RequestHeaders, r.RequestJSON, r.ResponseJSON, *rule.Cache, k.public)
	var errs []error
	for _, name := range rule.Cache.Vary {
		n := textproto.CanonicalMIMEHeaderKey(name)
		if strings.ContainsAny(n, " \t\r\n:,;{}.") || n == "" || dropped[n] || n == textproto.CanonicalMIMEHeaderKey(p.o.APIKeyHeader) {
			errs = append(errs, fmt.Errorf("cache.vary: %q is no header that a service gets of a caller (who calls is what scope is about)", name))
		}
		k.vary = append(k.vary, n)
	}
	for _, text := range rule.Cache.Tags {
		t, err := policy.CompileHTTPTag(text, variables)
		if err != nil {
			errs = append(errs, fmt.Errorf("cache.tags: %w", err))
		}
		k.tags = append(k.tags, t)
	}
	if err := once("cache.vary", k.vary); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if k.cache == nil {
		return nil, nil //nolint:nilnil // Nothing at all is kept.
	}
	k.sends = names(slices.Concat(negotiated, k.vary)...)
	k.says = slices.Clone(k.vary)
	if !k.public {
		k.says = append(k.says, "Authorization")
		if p.o.APIKeyHeader != "" {
			k.says = append(k.says, textproto.CanonicalMIMEHeaderKey(p.o.APIKeyHeader))
		}
	}
	k.route = k.cache.Route("/http/"+r.Name, rule.Cache)
	return k, nil
}

// keys is memory for keys.
var keys = sync.Pool{New: func() any { return new([]byte) }}

// lookUp returns what is kept and fresh. Otherwise, where the answer may be kept, it
// leaves the key in q.key.
func (q *Request) lookUp(memory *[]byte) *cache.Entry {
	k := q.route.keep
	if !reads(q.in.Method) {
		return nil
	}
	if !k.asks(q.in) {
		q.call.Cache = k.route.Bypassed().String()
		return nil
	}
	key := q.appendKey((*memory)[:0])
	*memory = key
	if int64(len(key)) > k.cache.MaxEntryBytes()/2 {
		q.call.Cache = k.route.Bypassed().String()
		return nil
	}
	e, s := k.route.Get(key)
	if e == nil {
		q.key, q.unnamed = key, q.shared()
		return nil
	}
	q.call.Cache = s.String()
	if e.Pass {
		return nil
	}
	return e
}

func reads(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// asks says whether a request can be answered by what is kept. A cookie is a session
// of the service's, which no key knows but where the rule varies by it.
func (k *keeper) asks(r *http.Request) bool {
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		return false
	}
	for _, name := range []string{"Upgrade", "Range", "If-Match", "If-Unmodified-Since", "Content-Type"} {
		if len(r.Header[name]) > 0 {
			return false
		}
	}
	return len(r.Header["Cookie"]) == 0 || slices.Contains(k.vary, "Cookie")
}

// appendKey holds all that the answer depends on: who is asked for what, by whom where
// the scope says so, under which name and scheme, and in which of the codings.
func (q *Request) appendKey(b []byte) []byte {
	k := q.route.keep
	b = k.route.AppendKey(b, q.call.Principal)
	for _, part := range [...]string{k.shape, q.target.variant, strings.ToLower(q.in.Host), q.scheme(), q.sendPath, q.path, q.sentQuery(), q.codings()} {
		b = cache.AppendPart(b, part)
	}
	if p := q.route.request; p.OfCaller() { // As many parts for every request of this shape.
		p.EachOfCaller(q.values(), func(variable, value string) { b = cache.AppendPart(cache.AppendPart(b, variable), value) })
	}
	for _, name := range k.vary {
		values := q.in.Header[name]
		b = append(cache.AppendPart(b, strconv.Itoa(len(values))), ' ')
		for _, v := range values {
			b = cache.AppendPart(b, v)
		}
	}
	return b
}

// shared says whether others are given the answer. Callers without a credential are
// one principal to us, and may be several to a service that reads a session of its own.
func (q *Request) shared() bool {
	return q.route.keep.rule.Public || !q.call.Principal.Authenticated()
}

// codings are those of the caller's that are passed on, in one order: answers differ by
// them, and callers write them in a hundred ways.
func (q *Request) codings() string {
	if q.route.out != nil {
		return ""
	}
	takes := [...]struct {
		name string
		yes  bool
	}{{name: "br"}, {name: "gzip"}, {name: "zstd"}}
	for _, line := range q.in.Header["Accept-Encoding"] {
		for member := range strings.SplitSeq(line, ",") {
			name, weight, _ := strings.Cut(member, ";")
			for i := range takes {
				if strings.EqualFold(strings.Trim(name, " \t"), takes[i].name) {
					takes[i].yes = !zeroWeight(weight)
				}
			}
		}
	}
	out := ""
	for i := range takes {
		if takes[i].yes {
			out += ", " + takes[i].name
		}
	}
	return strings.TrimPrefix(out, ", ")
}

// zeroWeight recognizes q=0 and q=0.000: not acceptable (RFC 9110, 12.4.2).
func zeroWeight(s string) bool {
	name, value, ok := strings.Cut(strings.Trim(s, " \t"), "=")
	return ok && strings.EqualFold(name, "q") && strings.Trim(value, "0.") == ""
}

// notOfFetches are headers of one caller's own cache, or page, that would shape what is
// fetched for others or for later.
var notOfFetches = []string{"If-None-Match", "If-Modified-Since", "If-Range", "Cache-Control", "Pragma", "Origin"}

// keyed takes away what the key does not hold, for an answer that may be kept.
func (q *Request) keyed(h http.Header) {
	k := q.route.keep
	if q.shared() {
		for name := range h {
			if !k.sends[name] {
				delete(h, name)
			}
		}
	}
	for _, name := range notOfFetches {
		if !slices.Contains(k.vary, name) {
			delete(h, name)
		}
	}
	if h["Accept-Encoding"] = []string{q.codings()}; h["Accept-Encoding"][0] == "" {
		h["Accept-Encoding"][0] = "identity"
	}
	if h["User-Agent"] == nil {
		h["User-Agent"] = []string{""} // Not net/http's own.
	}
}

// tagNames are the tags of the route's answers, as the path fills them in, and that of
// the path itself.
func (q *Request) tagNames() ([]string, error) {
	out := []string{cache.Target(hostOf(q.in), q.path)}
	for _, t := range q.route.keep.tags {
		name, err := t.Of(policy.Message{Variable: q.variable}, policy.Message{})
		if err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return out, nil
}

// safe are the methods that change nothing (RFC 9110, 9.2.1). What is not known is not safe.
func safe(method string) bool {
	return reads(method) || method == http.MethodOptions || method == http.MethodTrace
}

// wrote removes the answers that a request has made untrue, or may have: those of its
// path, whichever route keeps them and whatever the query is, those of the resources
// that the answer names (RFC 9111, 4.4), and those that have the tags of the route. A
// refusal has changed nothing.
func (q *Request) wrote(code int, h http.Header) {
	if !q.p.keeps || safe(q.in.Method) || code >= http.StatusBadRequest && code < http.StatusInternalServerError {
		return
	}
	q.p.o.Cache.InvalidateTargets(q.targets(h)...)
	k := q.route.keep
	if k == nil || len(k.tags) == 0 {
		return
	}
	if tags, err := q.tagNames(); err == nil {
		k.cache.Invalidate(tags...)
	}
}

// targets are the path of a request, and those that Location and Content-Location of its
// answer name. Of other origins a service cannot speak.
func (q *Request) targets(h http.Header) []string {
	host, base := hostOf(q.in), &url.URL{Scheme: q.scheme(), Host: q.in.Host, Path: q.path}
	out := []string{cache.Target(host, q.path)}
	for _, name := range [...]string{"Location", "Content-Location"} {
		u, err := base.Parse(h.Get(name))
		if err == nil && u.Path != q.path && u.Scheme == base.Scheme && authority(u) == authority(base) {
			out = append(out, cache.Target(host, u.Path))
		}
	}
	return out
}

// authority is the host and port of a URL, in one form.
func authority(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")) + ":" + port
}
