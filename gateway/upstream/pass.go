package upstream

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// What a method's rule lets pass beside its messages (headers.Pass), both ways. It is
// done here and nowhere else, so that it is the same for both edges, both kinds of
// connection and branches, each by its own method's rule.

// passed is what of a service's metadata callers get.
func (c *Conn) passed(ctx context.Context, call *policy.Call, r *route, md metadata.MD) metadata.MD {
	out, unsendable := r.pass.Response(md)
	if len(unsendable) > 0 {
		c.o.Logger.WarnContext(ctx, "metadata of a service cannot be passed on: it is no printable ASCII, or too large", "request_id", call.RequestID,
			"grpc_method", r.method.FullName, "upstream", call.Upstream, "keys", unsendable)
	}
	return out
}

// passRequest puts into what goes out what the rule lets pass of the caller's headers.
// The error is the caller's answer.
func (r *route) passRequest(md *sent, call *policy.Call) error {
	if !r.pass.Requests() {
		return nil
	}
	err := r.pass.Request(call, (*pairs)(&md.more).Set)
	var bad *headers.Unsendable
	if !errors.As(err, &bad) {
		return err
	}
	st := status.New(codes.InvalidArgument, msgBadHeader)
	violation := &errdetails.BadRequest_FieldViolation{Field: bad.Header, Description: bad.Reason}
	if with, err := st.WithDetails(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{violation}}); err == nil {
		st = with
	}
	return st.Err()
}

// appendPassed appends to a key what the service gets of the caller's headers beside the
// request, as it is sent: the same text over another edge may stand for other bytes. HTTP
// caches on the way must not give the answer to others. There is no key for what cannot
// be sent.
func (r *route) appendPassed(b []byte, call *policy.Call, a *Answer) (_ []byte, ok bool) {
	err := r.pass.Request(call, func(name, value string) { b = cache.AppendPart(cache.AppendPart(b, name), value) })
	a.Apart = true
	return cache.AppendPart(b, ""), err == nil // No name is empty: it ends them.
}

// besides is what the service said beside its answer, and callers may know. It is cached
// with the answer. A nil one is nothing.
type besides struct{ header, trailer metadata.MD }

// besides is what an answer has; nil where nothing passes.
func (r *route) besides(a *Answer) *besides {
	if !r.pass.Responds() {
		return nil
	}
	return &besides{a.Header, a.Trailer}
}

// besidesOf is what an entry has; nil where that is nothing.
func besidesOf(e *cache.Entry) *besides {
	if e == nil {
		return nil
	}
	b, _ := e.Meta.(*besides)
	return b
}

// failedCall is a failure that is not cached, with what the service said beside it.
type failedCall struct {
	error
	besides *besides
}

// GRPCStatus is the status of the failure.
func (e *failedCall) GRPCStatus() *status.Status { return status.Convert(e.error) }

// Unwrap is the failure as callers get it.
func (e *failedCall) Unwrap() error { return e.error }

// failed carries besides to all who wait for a fetch that has failed.
func (b *besides) failed(err error) error {
	if b == nil || len(b.header)+len(b.trailer) == 0 {
		return err
	}
	return &failedCall{err, b}
}

// giveFailed gives what belongs to a failure, of an entry or of a fetch, and returns the
// failure.
func (r *route) giveFailed(e *cache.Entry, err error, a *Answer) error {
	r.give(besidesOf(e), a)
	var f *failedCall
	if errors.As(err, &f) {
		r.give(f.besides, a)
		return f.error
	}
	return err
}

// give puts what belongs to a cached response into an answer, as far as the rule still
// lets it pass: it may have changed since. Nobody changes it there.
func (r *route) give(b *besides, a *Answer) {
	if b != nil {
		a.Header, _ = r.pass.Response(b.header)
		a.Trailer, _ = r.pass.Response(b.trailer)
	}
}

func (b *besides) bytes() (n int) {
	if b == nil {
		return 0
	}
	for _, md := range []metadata.MD{b.header, b.trailer} {
		for key, values := range md {
			n += len(key) + 64
			for _, v := range values {
				n += len(v) + 16
			}
		}
	}
	return n
}
