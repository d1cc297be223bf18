package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/gateway/route"
)

// matcher is a Match, compiled. It does not change.
type matcher struct {
	hosts     []string // Exact names, and `.name` for subdomains.
	prefix    string   // Without a slash at its end; only where byPrefix.
	byPrefix  bool
	exact     string
	template  *route.Index[struct{}]
	parsed    route.Template // that of template
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
		name := http.CanonicalHeaderKey(h.Name)
		if slices.ContainsFunc(c.headers, func(other HeaderMatch) bool { return other.Name == name }) {
			errs = append(errs, fmt.Errorf("match.headers: %q is there twice", name))
		}
		c.headers = append(c.headers, HeaderMatch{name, h.Value})
	}
	errs = append(errs, once("match.hosts", c.hosts), once("match.methods", m.Methods))
	if slices.Contains(c.methods, http.MethodGet) && !slices.Contains(c.methods, http.MethodHead) {
		c.methods = append(c.methods, http.MethodHead)
	}
	slices.Sort(c.methods)
	if err := c.compilePath(m); err != nil {
		errs = append(errs, err)
	}
	return c, errors.Join(errs...)
}

// once refuses a list that has something twice: one of the two is not what its author
// meant.
func once(what string, list []string) error {
	for i, s := range list {
		if slices.Contains(list[:i], s) {
			return fmt.Errorf("%s: %q is there twice", what, s)
		}
	}
	return nil
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
	if err == nil {
		err = odd(decoded)
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
	c.template, c.parsed = &route.Index[struct{}]{}, t
	c.variables = t.Variables()
	return c.template.Add(templateMethod, t, struct{}{})
}

func (c *matcher) compileRegex(s string) error {
	re, err := regexp.Compile(`\A(?:` + s + `)\z`)
	if err != nil {
		return fmt.Errorf("match.regex: %w", err)
	}
	if name, err := repeatedGroup(s); err != nil || name != "" {
		return errors.Join(err, fmt.Errorf("match.regex: the group %q may match several times, and a variable is one: put what repeats into the group", name))
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

// repeatedGroup names a group that stands in what may match several times. Such a group
// has the last of its matches: an owner would be compared with that, and a service could
// read the first.
func repeatedGroup(s string) (string, error) {
	re, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return "", err
	}
	return groupIn(re, false), nil
}

func groupIn(re *syntax.Regexp, repeated bool) string {
	switch re.Op {
	case syntax.OpCapture:
		if repeated && re.Name != "" {
			return re.Name
		}
	case syntax.OpStar, syntax.OpPlus:
		repeated = true
	case syntax.OpRepeat:
		repeated = repeated || re.Max != 1
	}
	for _, sub := range re.Sub {
		if name := groupIn(sub, repeated); name != "" {
			return name
		}
	}
	return ""
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

// Why a path is refused that some servers read as another one. A route with another
// rule, or another owner, would be theirs.
var (
	errSemicolon = errors.New("a path to a plain HTTP service may have no semicolon: some servers cut off what follows one")
	errEncoded   = errors.New("a path to a plain HTTP service may have no percent-encoding that is encoded itself (%25 before two hexadecimal digits): some servers decode twice")
)

// odd says why a decoded path is refused, if it is.
func odd(path string) error {
	if strings.IndexByte(path, ';') >= 0 {
		return errSemicolon
	}
	for i := 0; i+2 < len(path); i++ {
		if path[i] == '%' && isHex(path[i+1]) && isHex(path[i+2]) {
			return errEncoded
		}
	}
	return nil
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
