package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/balance"
	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// roundTripper sends a request, or finds its answer kept.
type roundTripper struct{}

// RoundTrip implements http.RoundTripper. The request is the reverse proxy's own.
func (roundTripper) RoundTrip(out *http.Request) (*http.Response, error) {
	q := requestOf(out.Context())
	if len(q.key) > 0 {
		return q.fetch(out)
	}
	return q.send(out)
}

// send sends a request to a backend, and again where that is allowed.
func (q *Request) send(out *http.Request) (*http.Response, error) {
	if len(q.route.faults) > 0 && !q.faulted {
		if err := q.fail(out.Context()); err != nil {
			return nil, err
		}
	}
	if s := q.route.upstream.shadow; s != nil && out.Body == nil && q.in.Header["Upgrade"] == nil && q.repeats() {
		if q.assert(out) == nil {
			s.send(out, q.route.method, q.route.method.Rule.Deadline, q.p.o.Observer)
		}
	}
	rule := &q.route.method.Rule.Retry
	repeat := q.mayRepeat() && (out.Body == nil || q.replay != nil)
	pick := balance.Pick{}
	if out.Body != nil && q.replay == nil {
		q.upload = &upload{ReadCloser: out.Body, w: &q.watch}
		out.Body = q.upload
	}
	for n := 1; ; n++ {
		res, err := q.attempt(out, &pick, n)
		if q.call.Breaker == "" { // Otherwise it was not sent.
			q.call.Attempts, q.call.Backend = n, pick.Chosen
		}
		if !repeat || n >= rule.MaxAttempts || !q.retries(out.Context(), res, err) || !q.wait(out.Context(), n) {
			if err == nil {
				q.watch.answered()
			}
			return res, err
		}
		if res != nil { // It is not the last word. Reading it to its end could take all the time that is left.
			_ = res.Body.Close()
		}
		if q.replay != nil {
			out.Body = io.NopCloser(bytes.NewReader(q.replay))
		}
		pick.Avoid = pick.Chosen
	}
}

// retries says whether the rule lets such an outcome be tried again. An attempt that
// was ended by its own bound always may be, as with RPCs.
func (q *Request) retries(ctx context.Context, res *http.Response, err error) bool {
	if ctx.Err() == nil && errors.Is(err, errHeaderLate) {
		return true
	}
	code := retryCode(ctx, res, err)
	return code != codes.OK && q.route.method.Rule.Retry.Retries(code)
}

// wait takes a retry out of the budget and waits; false means that there is none, or
// no time.
func (q *Request) wait(ctx context.Context, n int) bool {
	rule := &q.route.method.Rule.Retry
	d := resilience.Wait(n, rule.Backoff, rule.MaxBackoff, rand.Int64N)
	if left, bounded := q.watch.left(time.Now()); bounded && left <= d {
		return false
	}
	if s := q.target.service; s != nil && !s.TryRetry() {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		q.returnRetry()
		return false
	}
}

// returnRetry gives back a retry that was granted and not sent.
func (q *Request) returnRetry() {
	if s := q.target.service; s != nil {
		s.ReturnRetry()
	}
}

// attempt sends the request once.
func (q *Request) attempt(out *http.Request, pick *balance.Pick, n int) (_ *http.Response, err error) {
	permit, err := acquire(methodOf(q.target.service, q.route.method), n)
	if err != nil {
		var r *resilience.Rejection
		if errors.As(err, &r) {
			q.call.Breaker = r.Reason
		}
		if n > 1 {
			q.returnRetry()
		}
		return nil, err
	}
	done := q.upload.hold(permit)
	b := q.target.group.Pick(pick)
	if b == nil {
		done(resilience.Failure)
		return nil, errNoBackend
	}
	o := resilience.Ignored
	defer func() { // The edge survives a panic: the places among the requests in flight must not be lost by one.
		done(o)
		b.Done(o)
	}()
	start := time.Now()
	ctx, span := q.span(out.Context(), b.Addr, n)
	ctx, timeout := q.attemptTime(ctx)
	r := out
	if n > 1 { // The transport may still be writing the one before.
		r = out.Clone(ctx)
		r.Body = out.Body
	} else if ctx != out.Context() {
		r = out.WithContext(ctx)
	}
	if err := q.assert(r); err != nil {
		endSpan(span, nil, err)
		return nil, err
	}
	if span != nil {
		q.injectTrace(ctx, r.Header)
	}
	r.URL.Host = b.Conn.authority()
	res, err := b.Conn.pool.RoundTrip(r)
	if timeout != nil && !timeout.stop() && out.Context().Err() == nil {
		if err == nil { // The header came as the time was over: its body would be cut off.
			_ = res.Body.Close()
		}
		res, err = nil, errHeaderLate
	}
	o = q.outcome(out.Context(), res, err)
	code := codes.Unavailable
	switch {
	case err == nil:
		code = codeOf(res.StatusCode)
	case out.Context().Err() != nil || errors.Is(err, errHeaderLate):
		code = status.Code(public(out.Context(), err))
	case !unreached(err):
		code = codes.Internal
	}
	endSpan(span, res, err)
	if q.p.o.Observer != nil {
		q.p.o.Observer.UpstreamDone(q.route.method, q.target.name, code, time.Since(start), span)
	}
	return res, err
}

func acquire(m *resilience.Method, n int) (resilience.Permit, error) {
	switch {
	case m == nil:
		return resilience.Permit{}, nil
	case n == 1:
		return m.Acquire(resilience.Whole)
	}
	return m.AcquireAgain(resilience.Whole)
}

// attemptTimer ends one attempt until its header is there.
type attemptTimer struct {
	timer  *time.Timer
	cancel context.CancelFunc
}

// attemptTime bounds an attempt, where the rule says so.
func (q *Request) attemptTime(ctx context.Context) (context.Context, *attemptTimer) {
	d := q.route.method.Rule.Retry.AttemptTimeout
	if d <= 0 {
		return ctx, nil
	}
	ctx, cancel := context.WithCancel(ctx) //nolint:gosec // Ended by the request's own end: the answer's body needs it until then.
	return ctx, &attemptTimer{time.AfterFunc(d, cancel), cancel}
}

// stop says whether the attempt was in time.
func (t *attemptTimer) stop() bool { return t.timer.Stop() }

// retryCode is what a rule's retry codes are about: 502, 503 and 504, and failures
// that are answered so. OK means that nothing is to be tried again.
func retryCode(ctx context.Context, res *http.Response, err error) codes.Code {
	var rejected *resilience.Rejection
	switch {
	case err == nil && res.StatusCode == http.StatusBadGateway:
		return codes.Internal
	case err == nil && res.StatusCode == http.StatusServiceUnavailable:
		return codes.Unavailable
	case err == nil && res.StatusCode == http.StatusGatewayTimeout, errors.Is(err, errHeaderLate):
		return codes.DeadlineExceeded
	case err == nil || ctx.Err() != nil || errors.As(err, &rejected) || errors.Is(err, errNoBackend):
		return codes.OK
	case unreached(err):
		return codes.Unavailable
	case status.Code(err) != codes.Unknown: // Ours: the body's bounds, the signer.
		return codes.OK
	}
	return codes.Internal
}

// span makes a client span when the request is being traced.
func (q *Request) span(ctx context.Context, backend string, n int) (context.Context, trace.Span) {
	if q.p.o.Tracer == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, nil
	}
	return q.p.o.Tracer.Start(ctx, q.in.Method+" "+q.route.name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", q.in.Method), attribute.String("http.route", q.route.name),
		attribute.String("sluice.upstream", q.target.name), attribute.String("server.address", backend),
		attribute.String("sluice.variant", q.call.Variant), attribute.Int("sluice.attempt", n)))
}

func endSpan(span trace.Span, res *http.Response, err error) {
	if span == nil {
		return
	}
	switch {
	case err != nil:
		span.SetStatus(otelcodes.Error, "no answer")
	default:
		span.SetAttributes(attribute.Int("http.response.status_code", res.StatusCode))
		if res.StatusCode >= http.StatusInternalServerError {
			span.SetStatus(otelcodes.Error, res.Status)
		}
	}
	span.End()
}
