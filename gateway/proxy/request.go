package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Request is a request that has taken a route. It belongs to its goroutine.
type Request struct {
	p     *Proxy
	route *compiled
	path  string
	call  *policy.Call
	in    *http.Request // as the caller sent it

	sendPath string // as it is sent: what no rewrite touches is as the caller wrote it
	target   *target
	watch    watch
	w        *writer
	replay   []byte // a body that may be sent again
	upload   *upload
	delayed  bool  // on purpose: the service has less time than its rule gives
	status   int   // of the answer
	failed   error // what the reverse proxy was told
	upgraded bool
	undrain  func() bool // of a stream
	key      []byte      // of the answer, where it may be kept; not empty then
	unnamed  bool        // the service must not learn who asks: others would get the answer
	faulted  bool        // the route's faults have been asked
	kept     *cache.Entry
	told     bool // the log has what went wrong: the fetch, which may be another's, has said it
}

// Name is the route's.
func (q *Request) Name() string { return q.route.name }

// Method has the route's rule.
func (q *Request) Method() *policy.Method { return q.route.method }

// WebSocket says whether upgrades are passed on.
func (q *Request) WebSocket() bool { return q.route.webSocket }

type requestKey struct{}

func requestOf(ctx context.Context) *Request {
	q, _ := ctx.Value(requestKey{}).(*Request)
	return q
}

// Serve is the walk of an admitted request: its path, the entry chain, its body where
// rules change it, and then the reverse proxy. The error is a status.
func (q *Request) Serve(w http.ResponseWriter, r *http.Request, call *policy.Call) (err error) {
	if !q.p.enter() {
		return errDraining
	}
	defer q.p.open.Done()
	q.call, q.in = call, r
	for _, name := range q.route.single {
		if len(r.Header[name]) > 1 {
			return repeatedHeader(name)
		}
	}
	if err := odd(q.path); err != nil {
		return badPath(err)
	}
	if q.sendPath, err = q.route.rewrite.path(q.path, sentPath(r.URL)); err != nil {
		return badPath(err)
	}
	ctx, err := q.entry(r.Context())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	call.Upstream = q.route.upstream.name
	q.target = q.route.upstream.choose(r, call)
	call.Variant = q.target.variant
	rule := &q.route.method.Rule
	deadline := rule.Deadline
	if q.route.keep != nil {
		memory := keys.Get().(*[]byte)
		defer keys.Put(memory)
		if e := q.lookUp(memory); e != nil {
			return q.give(w, e)
		}
		if len(q.key) > 0 { // The fetch has it, which may be another's.
			deadline = 0
		}
	}
	q.watch.begin(cancel, deadline, rule.StreamIdle, rule.StreamMaxAge, call.Principal.Expires, q)
	defer q.watch.end()
	if r, err = q.body(r.WithContext(context.WithValue(ctx, requestKey{}, q))); err != nil {
		return err
	}
	return q.pass(w, r)
}

// sentPath is the path as the caller wrote it, which gateway/httpedge leaves in RawPath.
func sentPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath() // A request that a program made.
}

// sentQuery is the query as it was sent, with its question mark; empty where there was
// none. It is sent on as it is, and nothing reads parameters of it: what a parser of ours
// made of it could differ from what the service's makes.
func (q *Request) sentQuery() string {
	if u := q.in.URL; u.ForceQuery || u.RawQuery != "" {
		return "?" + u.RawQuery
	}
	return ""
}

// entry runs the checks on what is about to be sent.
func (q *Request) entry(ctx context.Context) (context.Context, error) {
	if len(q.p.o.Entry) == 0 {
		return ctx, nil
	}
	q.call.Message = policy.Message{Variable: q.variable}
	ctx, err := q.p.o.Entry.Run(ctx, q.call)
	q.call.Message = policy.Message{}
	if err != nil && q.p.o.Observer != nil {
		q.p.o.Observer.Denied(q.call.DeniedBy, q.route.method)
	}
	return ctx, err
}

func (q *Request) variable(name string) (string, bool) { return q.route.matcher.variable(q.path, name) }

// values are what templates of headers name.
func (q *Request) values() headers.Values {
	return headers.Values{Call: q.call, Route: q.route.name, Path: func(name string) string {
		v, _ := q.variable(name)
		return v
	}}
}

// maxReplay is the largest body that is kept to be sent again, in bytes.
const maxReplay = 64 << 10

// body reads a body that rules change, or that may have to be sent again; any other
// is passed on as it comes.
func (q *Request) body(r *http.Request) (*http.Request, error) {
	none := r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0
	switch {
	case q.route.in != nil:
		if none {
			return r, nil
		}
		return r, q.transformBody(r)
	case none || !q.mayRepeat() || r.ContentLength < 0 || r.ContentLength > maxReplay:
		return r, nil
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return r, err
	}
	q.useBody(r, data)
	return r, nil
}

func (q *Request) useBody(r *http.Request, data []byte) {
	q.replay = data
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	r.TransferEncoding = nil
	delete(r.Header, "Content-Length")
}

// transformBody applies the rules of JSON bodies. Who would pass them by with another
// type or encoding is refused.
func (q *Request) transformBody(r *http.Request) error {
	if len(r.Header["Content-Type"]) != 1 || !isJSON(r.Header["Content-Type"][0]) {
		return wrongMedia("the body must be JSON: send `Content-Type: application/json`")
	}
	if len(r.Header["Content-Encoding"]) > 0 {
		return wrongMedia("a body of this route may have no Content-Encoding")
	}
	data, err := io.ReadAll(r.Body) // Bounded by max_request_bytes: gateway/httpedge.
	if err != nil {
		return err
	}
	changed, err := q.route.in.apply(data)
	if err != nil {
		return badBody(err)
	}
	q.useBody(r, changed)
	return nil
}

// mayRepeat says whether the request may be sent again.
func (q *Request) mayRepeat() bool {
	return q.route.method.Rule.Retry.MaxAttempts > 1 && q.in.Header["Upgrade"] == nil && q.repeats()
}

// repeats says whether asking twice has the effect of asking once.
func (q *Request) repeats() bool {
	switch q.in.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return q.route.method.Rule.Idempotent
}

// pass lets the reverse proxy do its work, and says what came of it.
func (q *Request) pass(w http.ResponseWriter, r *http.Request) (err error) {
	q.w = &writer{ResponseWriter: w, header: http.Header{}, handshake: q.in.Header["Upgrade"] != nil}
	ctx := r.Context()
	defer func() {
		switch v := recover(); {
		case v == nil:
		case v == http.ErrAbortHandler: //nolint:errorlint // net/http's own way to break an answer.
			err = q.broken(ctx)
		default:
			panic(v)
		}
	}()
	defer func() {
		if q.undrain != nil {
			q.undrain()
		}
	}()
	q.p.proxy.ServeHTTP(q.w, r)
	switch {
	case q.kept != nil:
		return q.give(w, q.kept)
	case errors.Is(q.failed, errAgain): // By itself now, and with all that the caller sent.
		q.key, q.failed, q.unnamed = nil, nil, false
		q.watch.within(q.route.method.Rule.Deadline)
		q.p.proxy.ServeHTTP(q.w, r)
	}
	if q.failed != nil && !q.upgraded {
		return q.explain(ctx, q.failed)
	}
	if cause := context.Cause(ctx); q.upgraded && cause != nil {
		return public(ctx, cause) // Why a WebSocket ended, for the log.
	}
	q.w.finish()
	return nil
}

// broken is why an answer broke off.
func (q *Request) broken(ctx context.Context) error {
	if q.failed == nil && context.Cause(ctx) == nil {
		return status.Error(codes.Unavailable, msgUnavailable)
	}
	return public(ctx, q.failed)
}

// explain logs what the caller is not told.
func (q *Request) explain(ctx context.Context, err error) error {
	out := public(ctx, err)
	if q.told {
		return out
	}
	switch status.Code(out) {
	case codes.Internal, codes.Unavailable, codes.DeadlineExceeded:
		q.p.o.Logger.WarnContext(ctx, "upstream failed", "request_id", q.call.RequestID, "route", q.route.name,
			"upstream", q.target.name, "backend", q.call.Backend, "error", err.Error())
	}
	return out
}

// noteFailure is the reverse proxy's ErrorHandler: gateway/httpedge answers.
func noteFailure(_ http.ResponseWriter, r *http.Request, err error) {
	q := requestOf(r.Context())
	if q.failed = err; errors.Is(err, errKept) || errors.Is(err, errAgain) {
		return
	}
	if q.call.Attempts > 0 && !errors.Is(err, errNoBackend) {
		q.wrote(http.StatusBadGateway, nil) // It may have happened.
	}
	var body *BodyError
	if errors.As(err, &body) || isUpgradeMistake(err) {
		q.failed = errors.Join(errNonsense, err)
	}
}

// isUpgradeMistake recognizes what the reverse proxy says of an upgrade that nobody
// asked for. Its errors have no types.
func isUpgradeMistake(err error) bool {
	return strings.HasPrefix(err.Error(), "backend tried to switch")
}
