package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/gateway/rest/route"
)

// matcher is a Match, compiled. It does not change.
type matcher struct {
	hosts     []string // Exact names, and `.name` for subdomains.
	prefix    string   // Without a slash at its end; only where byPrefix.
	byPrefix  bool
	exact     string
	template  *route.Index[struct{}]
	regex     *regexp.Regexp
	groups    []int // of the regex's named groups, as variables has them
	methods   []string
	headers   []HeaderMatch
	variables []string
}

// templateMethod is the one method under which a template stands in its index:
// methods are compared apart.
const templateMethod = "*"

func compileMatch(m Match) (*matcher, error) {
	c := &matcher{methods: slices.Clone(m.Methods)}
	var errs []error
	for _, h := range m.Hosts {
		if rest, ok := strings.CutPrefix(h, "*."); ok {
			c.hosts = append(c.hosts, "."+strings.ToLower(rest))
		} else {
			c.hosts = append(c.hosts, strings.ToLower(h))
		}
	}
	for _, h := range m.Headers {
		c.headers = append(c.headers, HeaderMatch{http.CanonicalHeaderKey(h.Name), h.Value})
	}
	if slices.Contains(c.methods, http.MethodGet) && !slices.Contains(c.methods, http.MethodHead) {
		c.methods = append(c.methods, http.MethodHead)
	}
	slices.Sort(c.methods)
	if err := c.compilePath(m); err != nil {
		errs = append(errs, err)
	}
	return c, errors.Join(errs...)
}

func (c *matcher) compilePath(m Match) (err error) {
	stated := 0
	for _, s := range []string{m.Prefix, m.Exact, m.Template, m.Regex} {
		if s != "" {
			stated++
		}
	}
	switch {
	case stated != 1:
		return errors.New("match needs exactly one of prefix, exact, template, regex")
	case m.Prefix != "":
		c.byPrefix = true
		if c.prefix, err = written("match.prefix", strings.TrimRight(m.Prefix, "/")+"/"); err != nil {
			return err
		}
		c.prefix = strings.TrimSuffix(c.prefix, "/")
	case m.Exact != "":
		c.exact, err = written("match.exact", m.Exact)
	case m.Template != "":
		err = c.compileTemplate(m.Template)
	default:
		err = c.compileRegex(m.Regex)
	}
	return err
}

// written reads a path of the configuration as paths of requests are read, so that
// the two can be compared.
func written(what, path string) (string, error) {
	decoded, err := route.Normalize(path)
	if err == nil && odd(decoded) {
		err = errOdd
	}
	if err != nil {
		return "", fmt.Errorf("%s %q: no request has such a path: %w", what, path, err)
	}
	return decoded, nil
}

func (c *matcher) compileTemplate(s string) error {
	t, err := route.Parse(s)
	if err != nil {
		return fmt.Errorf("match.template: %w", err)
	}
	c.template = &route.Index[struct{}]{}
	c.variables = t.Variables()
	return c.template.Add(templateMethod, t, struct{}{})
}

func (c *matcher) compileRegex(s string) error {
	re, err := regexp.Compile(`\A(?:` + s + `)\z`)
	if err != nil {
		return fmt.Errorf("match.regex: %w", err)
	}
	c.regex = re
	for i, name := range re.SubexpNames() {
		if name == "" {
			continue
		}
		if slices.Contains(c.variables, name) {
			return fmt.Errorf("match.regex: two groups are called %q, and a variable is one", name)
		}
		c.variables, c.groups = append(c.variables, name), append(c.groups, i)
	}
	return nil
}

// takes says whether a request matches in all but its method. Host is in lower case
// and without a port.
func (c *matcher) takes(r *http.Request, host, path string) bool {
	if len(c.hosts) > 0 && !c.takesHost(host) {
		return false
	}
	if !c.takesPath(path) {
		return false
	}
	for i := range c.headers {
		h := &c.headers[i]
		values := r.Header[h.Name]
		if len(values) == 0 || h.Value != "" && !slices.Contains(values, h.Value) {
			return false
		}
	}
	return true
}

func (c *matcher) takesHost(host string) bool {
	for _, h := range c.hosts {
		if h == host || h[0] == '.' && len(host) > len(h) && strings.HasSuffix(host, h) {
			return true
		}
	}
	return false
}

func (c *matcher) takesPath(path string) bool {
	switch {
	case c.byPrefix:
		return strings.HasPrefix(path, c.prefix) && (len(path) == len(c.prefix) || path[len(c.prefix)] == '/')
	case c.template != nil:
		_, _, ok := c.template.Lookup(templateMethod, path)
		return ok
	case c.regex != nil:
		return c.regex.MatchString(path)
	}
	return path == c.exact
}

// takesMethod: TRACE is never passed on. Its answer is what the service got, and with
// that the assertion (RFC 9110, 9.3.8).
func (c *matcher) takesMethod(method string) bool {
	if method == http.MethodTrace || method == http.MethodConnect {
		return false
	}
	if len(c.methods) == 0 {
		return true
	}
	_, ok := slices.BinarySearch(c.methods, method)
	return ok
}

// variable returns a variable of a path that matches.
func (c *matcher) variable(path, name string) (string, bool) {
	at := slices.Index(c.variables, name)
	if at < 0 {
		return "", false
	}
	if c.template != nil {
		_, params, ok := c.template.Lookup(templateMethod, path)
		if !ok {
			return "", false
		}
		for i := range params.Len() {
			if n, v := params.At(i); n == name {
				return v, true
			}
		}
		return "", false
	}
	m := c.regex.FindStringSubmatchIndex(path)
	if m == nil || m[2*c.groups[at]] < 0 { // The group took no part in the match.
		return "", false
	}
	return path[m[2*c.groups[at]]:m[2*c.groups[at]+1]], true
}

// hostOf is the host that a request names, without its port.
func hostOf(r *http.Request) string {
	host := r.Host
	if colon := strings.LastIndexByte(host, ':'); colon >= 0 && strings.IndexByte(host[colon:], ']') < 0 {
		host = host[:colon]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

var errOdd = errors.New("a path to a plain HTTP service may have neither a semicolon nor what could be decoded once more")

// odd says whether a path, decoded, means something else to some servers: what
// follows a semicolon is cut off by those of Java, and a percent sign that is left
// could be decoded a second time. A route with another rule would be theirs.
func odd(path string) bool {
	if strings.IndexByte(path, ';') >= 0 {
		return true
	}
	for i := 0; i+2 < len(path); i++ {
		if path[i] == '%' && isHex(path[i+1]) && isHex(path[i+2]) {
			return true
		}
	}
	return false
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// rewriter is a Rewrite, compiled; the zero one changes nothing.
type rewriter struct {
	from, to string // of a prefix
	prefix   bool
	regex    *regexp.Regexp
	template string
}

func compileRewrite(w Rewrite, m *matcher) (rewriter, error) {
	switch {
	case w.Prefix == "" && w.Regex == "":
		return rewriter{}, nil
	case w.Prefix != "" && w.Regex != "":
		return rewriter{}, errors.New("rewrite: prefix and regex exclude each other")
	case w.Prefix != "":
		if !m.byPrefix {
			return rewriter{}, errors.New("rewrite.prefix needs match.prefix")
		}
		to, err := written("rewrite.prefix", strings.TrimRight(w.Prefix, "/")+"/")
		return rewriter{from: m.prefix, to: strings.TrimSuffix(to, "/"), prefix: true}, err
	}
	if m.regex == nil {
		return rewriter{}, errors.New("rewrite.regex needs match.regex")
	}
	for _, name := range references.FindAllStringSubmatch(w.Regex, -1) {
		ref := name[1] + name[2]
		if ref == "" || ref == "0" {
			continue
		}
		if n := m.regex.NumSubexp(); !slices.Contains(m.regex.SubexpNames(), ref) && !isNumberUpTo(ref, n) {
			return rewriter{}, fmt.Errorf("rewrite.regex: match.regex has no group %q (write ${1}x for a group before a letter)", ref)
		}
	}
	return rewriter{regex: m.regex, template: w.Regex}, nil
}

var references = regexp.MustCompile(`\$(?:\{(\w*)\}|(\w+))`)

func isNumberUpTo(s string, n int) bool {
	v := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' || v > n {
			return false
		}
		v = v*10 + int(s[i]-'0')
	}
	return v <= n
}

// path returns the path to send. What a regular expression makes of one is read
// again as if it had come so: two groups may make a dot segment.
func (w *rewriter) path(path string) (string, error) {
	switch {
	case w.prefix:
		if out := w.to + path[len(w.from):]; out != "" {
			return out, nil
		}
		return "/", nil
	case w.regex != nil:
		m := w.regex.FindStringSubmatchIndex(path)
		out := string(w.regex.ExpandString(nil, w.template, path, m))
		again, err := route.Normalize((&url.URL{Path: out}).EscapedPath())
		if err != nil {
			return "", err
		}
		if odd(again) {
			return "", errOdd
		}
		return again, nil
	}
	return path, nil
}
