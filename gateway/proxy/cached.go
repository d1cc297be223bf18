package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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
	k := &keeper{cache: p.o.Cache, rule: rule.Cache, public: rule.Cache.Public && rule.Public && !request.OfCaller() && len(p.o.Upstreams[r.Upstream].Canaries) == 0,
		shape: fmt.Sprintf("%s %+v %+v %+v %+v", r.Upstream, r.Rewrite, r.RequestHeaders, r.RequestJSON, r.ResponseJSON)}
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
		q.key = key
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
	for _, part := range [...]string{k.shape, q.target.variant, strings.ToLower(q.in.Host), q.scheme(), q.sendPath, q.path, q.in.URL.RawQuery, q.codings()} {
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
	for _, name := range []string{"If-None-Match", "If-Modified-Since", "Origin"} {
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

// Why the reverse proxy ends without an answer of its own.
var (
	errKept  = errors.New("a kept answer is given")
	errAgain = errors.New("the answer is nobody else's: ask again")
)

// fetch is the round trip of a request whose answer may be kept. Answers that may be
// shared it leaves in q.kept, with errKept; others it returns.
func (q *Request) fetch(out *http.Request) (*http.Response, error) {
	k, ctx := q.route.keep, out.Context()
	tags, err := q.tagNames()
	if err != nil {
		return nil, err
	}
	var sent *policy.Call
	own := &handover{}
	e, s, err := k.route.Do(ctx, q.key, tags, false, func(ctx context.Context) (*cache.Entry, error) {
		ctx, sent = q.detached(ctx)
		return q.ask(ctx, sent, out, own, tags)
	})
	q.call.Cache = s.String()
	if s == cache.Miss && ctx.Err() == nil && sent != nil {
		q.call.Backend, q.call.Attempts, q.call.Breaker = sent.Backend, sent.Attempts, sent.Breaker
	}
	var answered *answeredError
	switch res := own.take(); {
	case e != nil && !e.Pass:
		release(res)
		q.kept = e
		return nil, errKept
	case res != nil && ctx.Err() == nil:
		return q.takeOver(out, res), nil
	case e != nil, errors.As(err, &answered) && answered.code < http.StatusInternalServerError:
		release(res)
		q.call.Cache = cache.Bypass.String()
		return nil, errAgain
	default:
		release(res)
		q.told = true
		return nil, err
	}
}

// detached is the context of a fetch, with a call of its own.
func (q *Request) detached(ctx context.Context) (context.Context, *policy.Call) {
	out, call := policy.Detach(ctx)
	if call == nil {
		call = &policy.Call{Method: q.call.Method, RequestID: q.call.RequestID, Peer: q.call.Peer, Client: q.call.Client, Headers: q.call.Headers, Principal: q.call.Principal}
	}
	return out, call
}

// answeredError is a failure that the service has answered itself.
type answeredError struct{ code int }

func (e *answeredError) Error() string { return "the service answered " + strconv.Itoa(e.code) }

// GRPCStatus says to the cache, and to those who waited for another's fetch, what it is.
func (e *answeredError) GRPCStatus() *status.Status {
	switch c := codeOf(e.code); c {
	case codes.Unavailable:
		return status.New(c, msgUnavailable)
	case codes.DeadlineExceeded:
		return status.New(c, msgDeadline)
	case codes.Internal, codes.Unimplemented:
		return status.Convert(badResponse())
	default:
		return status.New(c, http.StatusText(e.code))
	}
}

// ask asks the service for an answer that may be kept. What may not be, or is too
// large, goes to own: to the one who asked, if still there. It runs on the goroutine
// of the cache's, and may outlive q, of which it reads what does not change.
func (q *Request) ask(ctx context.Context, call *policy.Call, out *http.Request, own *handover, tags []string) (*cache.Entry, error) {
	if !q.p.enter() {
		return nil, errDraining
	}
	defer q.p.open.Done()
	// The answer's body may be read behind the fetch, so the request has a life of its own.
	life, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	unlink := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	f := &Request{p: q.p, route: q.route, path: q.path, call: call, sendPath: q.sendPath, target: q.target}
	life = context.WithValue(life, requestKey{}, f)
	f.in = out.Clone(life)
	f.in.Method = http.MethodGet
	rule := &q.route.method.Rule
	f.watch.begin(cancel, rule.Deadline, rule.StreamIdle, rule.StreamMaxAge, time.Time{})
	end := func() { f.watch.end(); unlink() }
	res, err := f.send(f.in)
	if err != nil {
		end()
		cancel(nil)
		return nil, f.explain(life, err)
	}
	e, why, err := f.keep(life, res, tags)
	end()
	if e == nil && err == nil || why != nil {
		own.put(res, func() { cancel(nil) })
	} else {
		_ = res.Body.Close()
		cancel(nil)
	}
	switch {
	case why != nil:
		return nil, why
	case err != nil:
		return nil, err
	case e == nil:
		return &cache.Entry{Pass: true, TTL: passTime, Tags: tags}, nil
	}
	return e, nil
}

// passTime bounds for how long it is remembered that an answer cannot be shared.
const passTime = 10 * time.Second

// keep makes an entry of an answer: nil where it may not be shared, with why where that
// is a failure. What it has read of the body is put back then.
func (q *Request) keep(ctx context.Context, res *http.Response, tags []string) (e *cache.Entry, why *answeredError, err error) {
	k := q.route.keep
	negative := k.rule.NegativeTTL > 0 && (res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusGone)
	a, ttl := k.answerOf(res, q.shared())
	if res.StatusCode >= http.StatusBadRequest && (!negative || a == nil) || res.StatusCode < http.StatusOK {
		return nil, &answeredError{max(res.StatusCode, http.StatusBadRequest)}, nil
	}
	if a == nil || res.ContentLength > k.cache.MaxEntryBytes() {
		return nil, nil, nil
	}
	res.Body = watched{res.Body, &q.watch}
	body, whole, err := readUpTo(res, k.cache.MaxEntryBytes())
	if err != nil {
		return nil, nil, q.explain(ctx, err)
	}
	if !whole {
		return nil, nil, nil
	}
	if body, err = q.changed(res, body); err != nil {
		return nil, nil, q.explain(ctx, errors.Join(errNonsense, err))
	}
	a.finish(res.Header, body)
	e = &cache.Entry{Body: body, Meta: a, MetaBytes: a.bytes(), Tags: tags, TTL: ttl, NoStale: a.noStale}
	if negative {
		e.Err = &answeredError{res.StatusCode}
	}
	return e, nil, nil
}

// readUpTo reads a body of at most that many bytes; of a longer one, what was read is
// put back.
func readUpTo(res *http.Response, most int64) (body []byte, whole bool, err error) {
	body, err = io.ReadAll(io.LimitReader(res.Body, most+1))
	if err != nil || int64(len(body)) <= most {
		return slices.Clip(body), true, err
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(strings.NewReader(string(body)), res.Body), res.Body}
	return nil, false, nil
}

// changed applies the rules of JSON answers.
func (q *Request) changed(res *http.Response, body []byte) ([]byte, error) {
	if q.route.out == nil {
		return body, nil
	}
	src := res.Body
	res.Body = io.NopCloser(strings.NewReader(string(body)))
	defer func() { res.Body = src }()
	if err := q.transformAnswer(res); err != nil {
		return nil, err
	}
	return io.ReadAll(res.Body)
}

// takeOver makes an answer that a fetch could not keep this request's own.
func (q *Request) takeOver(out *http.Request, h *handed) *http.Response {
	res := h.res
	if q.in.Method == http.MethodHead {
		release(h)
		res.Body = http.NoBody
	} else {
		stop := context.AfterFunc(out.Context(), h.end)
		res.Body = owned{res.Body, func() { stop(); h.end() }}
	}
	res.Request = out
	q.watch.answered()
	return res
}

// owned is a body with what ends its request.
type owned struct {
	io.ReadCloser
	end func()
}

func (b owned) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

// handover is where a fetch leaves an answer for the one who asked.
type handover struct {
	mu   sync.Mutex
	gone bool
	h    *handed
}

type handed struct {
	res *http.Response
	end func()
}

func release(h *handed) {
	if h != nil {
		_ = h.res.Body.Close()
		h.end()
	}
}

func (o *handover) put(res *http.Response, end func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := &handed{res, end}
	if o.gone {
		release(h)
		return
	}
	o.h = h
}

// take ends the wait: what comes later is let go.
func (o *handover) take() *handed {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gone = true
	return o.h
}

// tagNames are the tags of the route's answers, as the path fills them in.
func (q *Request) tagNames() ([]string, error) {
	var out []string
	for _, t := range q.route.keep.tags {
		name, err := t.Of(policy.Message{Proto: noMessage, Variable: q.variable}, policy.Message{})
		if err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return out, nil
}

// wrote removes the answers that have the tags of the route, where a request of another
// method has changed something, or may have.
func (q *Request) wrote(code int) {
	k := q.route.keep
	if k == nil || len(k.tags) == 0 || reads(q.in.Method) || q.in.Method == http.MethodOptions ||
		code >= http.StatusBadRequest && code < http.StatusInternalServerError {
		return
	}
	if tags, err := q.tagNames(); err == nil {
		k.cache.Invalidate(tags...)
	}
}
