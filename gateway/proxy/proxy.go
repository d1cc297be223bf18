package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// Proxy is the routes to plain HTTP services, with their connections. Safe for
// concurrent use.
type Proxy struct {
	o         Options
	hosted    routeIndex // routes that name a host
	others    routeIndex
	upstreams map[string]*Service
	proxy     *httputil.ReverseProxy
	faults    *prometheus.CounterVec
	keeps     bool // some route keeps answers

	// draining ends when what streams must end, too; open counts what is served.
	draining   context.Context
	endStreams context.CancelCauseFunc
	mu         sync.Mutex
	closed     bool
	open       sync.WaitGroup
}

// compiled is a Route, ready to be asked.
type compiled struct {
	name      string
	verbs     string
	path      string
	matcher   *matcher
	method    *policy.Method
	upstream  *Service
	rewrite   rewriter
	request   *headers.Program
	response  *headers.Program
	in, out   *transform
	keep      *keeper
	faults    []Fault
	webSocket bool
	single    []string // headers of which a request has one line at most
}

// New compiles routes and opens upstreams. The error joins everything that is wrong,
// each with the route or upstream that it is about; nothing stays open then.
func New(o Options) (*Proxy, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{o: o, upstreams: map[string]*Service{}}
	var err error
	if p.faults, err = faultCounter(o.Counters); err != nil {
		return nil, err
	}
	p.draining, p.endStreams = context.WithCancelCause(context.Background())
	open := o.Open
	if open == nil {
		open = func(name string, u Upstream) (*Service, error) { return Open(name, u, p.o) }
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(o.Upstreams)) {
		u, err := open(name, o.Upstreams[name])
		for i := range o.Upstreams[name].Faults {
			if err := o.Upstreams[name].Faults[i].check(); err != nil {
				errs = append(errs, fmt.Errorf("http_upstreams.%s: resilience.faults[%d]: %w", name, i, err))
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("http_upstreams.%s: %w", name, err))
			continue
		}
		p.upstreams[name] = u
	}
	seen, matches := map[string]bool{}, map[string]string{}
	for _, r := range o.Routes {
		if seen[r.Name] {
			errs = append(errs, fmt.Errorf("http_routes: two are called %q", r.Name))
			continue
		}
		seen[r.Name] = true
		c, err := p.compile(r)
		if first := matches[r.Match.inFull()]; err == nil && first != "" {
			err = fmt.Errorf("it matches what %s matches, which comes first", first)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("http_routes: %s: %w", r.Name, err))
			continue
		}
		matches[r.Match.inFull()] = r.Name
		at := &p.others
		if len(r.Match.Hosts) > 0 {
			at = &p.hosted
		}
		if err := at.add(c); err != nil {
			errs = append(errs, fmt.Errorf("http_routes: %s: %w", r.Name, err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(append(errs, p.Close())...)
	}
	p.proxy = &httputil.ReverseProxy{
		Rewrite: rewriteRequest, Transport: roundTripper{}, ModifyResponse: modifyResponse, ErrorHandler: noteFailure,
		BufferPool: &buffers{}, ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	return p, nil
}

func (p *Proxy) compile(r Route) (*compiled, error) {
	c := &compiled{name: r.Name, webSocket: r.WebSocket}
	c.verbs, c.path = r.Match.inWords()
	var errs []error
	note := func(what string, err error) {
		if err != nil && what != "" {
			err = fmt.Errorf("%s: %w", what, err)
		}
		errs = append(errs, err)
	}
	var err error
	c.matcher, err = compileMatch(r.Match)
	note("", err)
	if err == nil {
		c.rewrite, err = compileRewrite(r.Rewrite, c.matcher)
		note("", err)
	}
	r.Rule.Variables = c.matcher.variables
	rule, err := policy.HTTPRule(r.Rule)
	note("", err)
	c.method = policy.NewHTTPMethod(r.Name, r.Upstream, rule)
	c.request, err = headers.Compile(r.RequestHeaders, headers.Scope{PathVariables: c.matcher.variables, Secret: []string{p.o.APIKeyHeader}})
	note("request_headers", err)
	c.response, err = headers.Compile(r.ResponseHeaders, headers.Scope{Response: true, PathVariables: c.matcher.variables, Secret: []string{p.o.APIKeyHeader}})
	note("response_headers", err)
	c.in, err = compileJSON(r.RequestJSON)
	note("request_json", err)
	c.out, err = compileJSON(r.ResponseJSON)
	note("response_json", err)
	u, ok := p.o.Upstreams[r.Upstream]
	if !ok {
		note("", fmt.Errorf("upstream %q is none of http_upstreams", r.Upstream))
	}
	c.faults, c.single = u.Faults, p.single(&u)
	c.keep, err = p.compileCache(r, &rule, c.matcher.variables, c.request)
	note("", err)
	p.keeps = p.keeps || c.keep != nil
	if c.webSocket && (c.in != nil || c.out != nil) {
		note("", errors.New("websocket and rules of JSON bodies exclude each other: a WebSocket has no body"))
	}
	if c.upstream = p.upstreams[r.Upstream]; c.upstream != nil {
		c.upstream.users(c.method)
	}
	return c, errors.Join(errs...)
}

// single are the headers of which a request to an upstream may have one line: those that
// routes, canaries and faults are chosen by, for the service could read another line than
// the one that matched; and User-Agent, of which net/http sends the first alone.
func (p *Proxy) single(u *Upstream) []string {
	names := []string{"User-Agent"}
	for _, r := range p.o.Routes {
		for _, h := range r.Match.Headers {
			names = append(names, h.Name)
		}
	}
	for _, c := range u.Canaries {
		for _, m := range c.Match {
			names = append(names, m.Header)
		}
	}
	for i := range u.Faults {
		names = append(names, u.Faults[i].Header)
	}
	for i := range names {
		names[i] = http.CanonicalHeaderKey(names[i])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Methods are the routes as methods, in their order, for limits and the admin page.
func (p *Proxy) Methods() []*policy.Method {
	var out []*policy.Method
	for _, c := range slices.Concat(p.hosted.routes, p.others.routes) {
		out = append(out, c.method)
	}
	return out
}

// Listed is a route, in words.
type Listed struct {
	// Verbs are its methods, `*` for any; Path its hosts and its path: a prefix ends with
	// `/**`, a regular expression begins with `~`.
	Verbs, Path string
	Method      *policy.Method
}

// Routes lists the routes in the order in which they are asked.
func (p *Proxy) Routes() []Listed {
	var out []Listed
	for _, c := range slices.Concat(p.hosted.routes, p.others.routes) {
		out = append(out, Listed{Verbs: c.verbs, Path: c.path, Method: c.method})
	}
	return out
}

// inFull is the same text for matches that take the same requests as they are written.
func (m *Match) inFull() string {
	hosts, methods := slices.Sorted(slices.Values(m.Hosts)), slices.Sorted(slices.Values(m.Methods))
	return fmt.Sprintf("%q %q %q %q %q %q %q", hosts, methods, m.Prefix, m.Exact, m.Template, m.Regex, m.Headers)
}

// inWords is a Match as lists show it.
func (m *Match) inWords() (verbs, path string) {
	if verbs = strings.Join(m.Methods, ","); verbs == "" {
		verbs = "*"
	}
	switch {
	case m.Prefix != "":
		path = strings.TrimRight(m.Prefix, "/") + "/**"
	case m.Regex != "":
		path = "~" + m.Regex
	default:
		path = m.Exact + m.Template
	}
	for _, h := range m.Headers {
		path += " " + h.Name
		if h.Value != "" {
			path += "=" + h.Value
		}
	}
	return verbs, strings.Join(m.Hosts, ",") + path
}

// Match finds the route of a request. Hosted says which: those that name a host, or
// those that do not. Path is normalized and decoded.
func (p *Proxy) Match(r *http.Request, method, path string, hosted bool) (*Request, bool) {
	c := p.routes(hosted).find(r, method, path)
	if c == nil {
		return nil, false
	}
	return &Request{p: p, route: c, path: path}, true
}

func (p *Proxy) routes(hosted bool) *routeIndex {
	if hosted {
		return &p.hosted
	}
	return &p.others
}

// Allowed names the methods of the routes that would have taken a request but for its
// own, sorted, and OPTIONS; nil for none.
func (p *Proxy) Allowed(r *http.Request, path string, hosted bool) []string {
	out := p.routes(hosted).methods(r, path)
	slices.Sort(out)
	return slices.Compact(out)
}

// Meant names a route that a path of the gateway's own would take requests from. A
// prefix is meant by its own path alone: what is below it may be anything, and the
// path of the gateway's own is more exact.
func (p *Proxy) Meant(path string) (name string, ok bool) {
	for _, c := range slices.Concat(p.hosted.routes, p.others.routes) {
		if m := c.matcher; m.byPrefix && m.prefix == path || !m.byPrefix && m.takesPath(path) {
			return c.method.FullName[1:], true
		}
	}
	return "", false
}

// EndStreams ends bodies that stream and WebSockets, and those that begin later: a
// gateway that goes away cannot wait for streams without end.
func (p *Proxy) EndStreams() { p.endStreams(errDraining) }

// Close ends what is open, waits for it, and closes the connections.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.EndStreams()
	p.open.Wait()
	if p.o.Open != nil {
		return nil
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(p.upstreams)) {
		errs = append(errs, p.upstreams[name].Close())
	}
	return errors.Join(errs...)
}

// enter counts what is served; false once the proxy is closed.
func (p *Proxy) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.open.Add(1)
	return true
}

// buffers are those that bodies are copied through.
type buffers struct{ pool sync.Pool }

const bufferBytes = 32 << 10

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if v, ok := b.pool.Get().(*[]byte); ok {
		return *v
	}
	return make([]byte, bufferBytes)
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(v []byte) { b.pool.Put(&v) }

// methodOf is what a service's breaker and limit know of a route.
func methodOf(s *resilience.Service, m *policy.Method) *resilience.Method {
	if s == nil {
		return nil
	}
	class := m.Rule.LimitClass
	if class == "" {
		class = "other"
	}
	return s.Method(class, m.FullName)
}
