package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

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
	if err := q.failAlone(ctx); err != nil {
		q.call.Cache = k.route.Bypassed().String()
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
	case res != nil && ctx.Err() == nil && !(res.personal && q.unnamed && q.call.Principal.Authenticated()):
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

// failAlone lets a request that may fetch for others have its fault by itself, within its
// deadline: whoever asks for a failure must not choose it for those who wait.
func (q *Request) failAlone(ctx context.Context) error {
	q.faulted = true
	if d := q.route.method.Rule.Deadline; len(q.route.faults) > 0 && d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, errHeaderLate)
		defer cancel()
	}
	return q.fail(ctx)
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
	f := &Request{p: q.p, route: q.route, path: q.path, call: call, sendPath: q.sendPath, target: q.target, unnamed: q.unnamed, faulted: true}
	life = context.WithValue(life, requestKey{}, f)
	f.in = out.Clone(life)
	f.in.Method = http.MethodGet
	rule := &q.route.method.Rule
	f.watch.begin(cancel, rule.Deadline, rule.StreamIdle, rule.StreamMaxAge, time.Time{}, nil)
	end := func() { f.watch.end(); unlink() }
	start := time.Now()
	res, err := f.send(f.in)
	if err != nil {
		end()
		cancel(nil)
		return nil, f.explain(life, err)
	}
	a := f.answer(res, start)
	e, why, err := f.keep(life, res, a, tags, start)
	end()
	if e == nil && err == nil || why != nil {
		own.put(&handed{res, personal(res, a, why), func() { cancel(nil) }})
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

// personal says whether an answer may be another one to a caller who is known: the
// service says that it is for one alone, or that it wants to know who asks. Who was not
// named to it asks again by herself.
func personal(res *http.Response, a *answer, why *answeredError) bool {
	if why != nil {
		return res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden
	}
	return a == nil
}

// answer is what belongs to an answer to a request that was sent at start; nil where it
// may not be shared.
func (q *Request) answer(res *http.Response, start time.Time) *answer {
	if readFreshness(res.Header, !q.shared(), start, time.Now()).never {
		return nil
	}
	return q.route.keep.answerOf(res)
}

// keep makes an entry of an answer: nil where there is none to share, with why where
// that is a failure. What it has read of the body is put back then.
func (q *Request) keep(ctx context.Context, res *http.Response, a *answer, tags []string, start time.Time) (e *cache.Entry, why *answeredError, err error) {
	k := q.route.keep
	negative := k.rule.NegativeTTL > 0 && (res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusGone)
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
	f := readFreshness(res.Header, !q.shared(), start, time.Now()) // Once more: the body took time as well.
	a.times(k, &f)
	e = &cache.Entry{Body: body, Meta: a, MetaBytes: a.bytes(), Tags: tags, TTL: f.ttl(), NoStale: f.noStale, NoStore: f.never}
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
	res      *http.Response
	personal bool
	end      func()
}

func release(h *handed) {
	if h != nil {
		_ = h.res.Body.Close()
		h.end()
	}
}

func (o *handover) put(h *handed) {
	o.mu.Lock()
	defer o.mu.Unlock()
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
