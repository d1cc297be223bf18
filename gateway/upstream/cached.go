package upstream

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	paths "github.com/sluice-gateway/sluice/gateway/route"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// kept is what a method's rule says about the cache: how its answers are kept, and
// which others it makes untrue. Either may be nothing.
type kept struct {
	cache       *cache.Cache
	route       *cache.Route // nil where answers are not kept
	vary        []*policy.KeyField
	tags        []*policy.Tag
	open        bool             // some tag has a field of the response
	partial     protowire.Number // of a composite's field that lists what it lacks; 0 means none
	invalidates []*policy.Tag
	// targets are the paths of the method: of its answers where they are kept, else those
	// that it changes, and location is one that its answer names.
	targets  []target
	reads    bool // only an unsafe HTTP method makes the paths untrue
	location *policy.Tag
}

// newKept is nil where the rule says nothing and no path is changed under which answers
// are cached, or where nothing is kept at all.
func newKept(c *cache.Cache, m *schema.Method, cached []paths.Template) (*kept, error) {
	rule := m.Rule.Cache
	if c == nil {
		return nil, nil //nolint:nilnil // No cache, nothing to do.
	}
	k := &kept{cache: c}
	var err error
	if k.invalidates, err = compileTags(m.Method, m.Rule.Invalidates); err != nil {
		return nil, err
	}
	if k.targets, k.reads, err = newTargets(m, cached); err != nil {
		return nil, err
	}
	if rule == nil {
		if k.location, err = locationOf(m.Method, cached); err != nil || len(k.invalidates)+len(k.targets) == 0 && k.location == nil {
			return nil, err
		}
		return k, nil
	}
	if k.tags, err = compileTags(m.Method, rule.Tags); err != nil {
		return nil, err
	}
	for _, t := range k.tags {
		k.open = k.open || t.OfResponse()
	}
	for _, path := range rule.Vary {
		f, err := policy.CompileKeyField(m.Descriptor.Input(), path)
		if err != nil {
			return nil, fmt.Errorf("%s: cache.vary: %w", m.FullName, err)
		}
		k.vary = append(k.vary, f)
	}
	if fd := m.Descriptor.Output().Fields().ByName(partialField); fd != nil && fd.Cardinality() == protoreflect.Repeated {
		k.partial = fd.Number()
	}
	k.route = c.Route(m.FullName, rule)
	return k, nil
}

// partialField is the response field in which a composite lists the branches that it
// had to leave out: an answer that has one is given, but not kept.
const partialField = "partial"

func compileTags(m *policy.Method, texts []string) (out []*policy.Tag, err error) {
	for _, text := range texts {
		t, err := m.CompileTag(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.FullName, err)
		}
		out = append(out, t)
	}
	return out, nil
}

// cached is call for a method whose rule has to do with the cache. The entry checks
// have run: what is kept is given to nobody who could not have fetched it.
func (c *Conn) cached(ctx context.Context, call *policy.Call, r *route, in, out any, opts ...grpc.CallOption) error {
	if r.kept.route == nil {
		return c.uncached(ctx, call, r, in, out, opts...)
	}
	if call.Writes && len(r.kept.targets) > 0 { // RFC 9111, 4: a write is never answered by a cache.
		call.Cache = r.kept.route.Bypassed().String()
		return c.uncached(ctx, call, r, in, out, opts...)
	}
	memory := keys.Get().(*[]byte)
	defer func() { keys.Put(memory) }()
	to := r.choose(call)
	req, key, ok := r.kept.key(memory, call, r, in)
	if !ok {
		call.Cache = r.kept.route.Bypassed().String()
		return c.uncached(ctx, call, r, in, out, opts...)
	}
	e, s := r.kept.route.Get(key)
	if e == nil {
		var err error
		if e, s, err = c.fetch(ctx, call, r, to, req, key); err != nil && r.kept.wantsName(call, err) {
			call.Cache = r.kept.route.Bypassed().String()
			call.Upstream, call.Backend, call.Variant, call.Attempts, call.Breaker = "", "", "", 0, "" // Of the fetch: this is a call of its own.
			return c.uncached(ctx, call, r, in, out, opts...)
		}
		if err != nil {
			call.Cache = s.String()
			err = r.giveFailed(e, err, opts)
			if st := status.Convert(err); st.Code() == codes.PermissionDenied && st.Message() == msgWantsName && !call.Unnamed {
				return status.Error(codes.Internal, msgInternal) // She has no name, and the service takes none: as where nothing is cached.
			}
			return err
		}
	}
	call.Cache = s.String()
	if call.Edge == policy.EdgeBranch {
		traceBranch(ctx, call)
	}
	if e.Err != nil {
		return r.giveFailed(e, e.Err, opts)
	}
	r.give(besidesOf(e), opts)
	if e.Kept() {
		call.Kept = e
	}
	if err := give(e.Body, out, r); err != nil {
		return c.answer(ctx, call, r, err)
	}
	return nil
}

// uncached is a call that goes past the cache, which what it changes does not.
func (c *Conn) uncached(ctx context.Context, call *policy.Call, r *route, in, out any, opts ...grpc.CallOption) error {
	err := c.call(ctx, call, r, in, out, opts...)
	r.kept.changed(call, in, out, err)
	return err
}

// traceBranch tells in the composite's span how a branch fared that may have had no
// span of its own: its answer was kept. At the edges the request's span tells.
func traceBranch(ctx context.Context, call *policy.Call) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.AddEvent("cache", trace.WithAttributes(
			attribute.String("rpc.method", call.Method.FullName[1:]), attribute.String("sluice.cache", call.Cache)))
	}
}

// keys is memory for keys, and for requests that come typed.
var keys = sync.Pool{New: func() any { return new([]byte) }}

// key returns the request in wire form and the key of its answer, in memory. It is not
// ok where there is no key: the fields that it is made of cannot be read, and the
// service shall say so; or it would take more room than answers have.
func (k *kept) key(memory *[]byte, call *policy.Call, r *route, in any) (req, key []byte, ok bool) {
	b := (*memory)[:0]
	switch in := in.(type) {
	case *wire.Frame:
		req = in.Data
	case proto.Message:
		var err error
		if b, err = (proto.MarshalOptions{Deterministic: true}).MarshalAppend(b, in); err != nil {
			return nil, nil, false
		}
		req = b
	}
	if int64(len(req)) > k.cache.MaxEntryBytes()/2 {
		return nil, nil, false
	}
	start := len(b)
	b = k.route.AppendKey(b, call.Principal)
	if r.traffic != nil {
		b = r.appendTraffic(b, call)
	}
	if r.pass.Requests() {
		if b, ok = r.appendPassed(b, call); !ok {
			return nil, nil, false
		}
	}
	if len(k.vary) == 0 {
		b = cache.AppendPart(b, req)
	}
	for _, f := range k.vary {
		var err error
		if b, err = f.Append(b, req); err != nil {
			return nil, nil, false
		}
	}
	*memory = b
	return req, b[start:], true
}

// appendTraffic appends to a key what the service gets beside the request: which
// variant it is, and what header rules tell of the caller. Anyone can choose a canary or
// send a header, and must not choose for others.
func (r *route) appendTraffic(b []byte, call *policy.Call) []byte {
	if call.Variant != "" {
		b = cache.AppendPart(cache.AppendPart(b, "variant"), call.Variant)
		call.KeptApart = true
	}
	if p := r.traffic.headers.Request; p.OfCaller() {
		p.EachOfCaller(headers.Values{Call: call, Route: r.method.FullName[1:]}, func(variable, value string) {
			b = cache.AppendPart(cache.AppendPart(b, variable), value)
		})
		call.KeptApart = true
	}
	return cache.AppendPart(b, "") // No variable is called so: it ends them.
}

// chosen carries the place for which an answer is fetched: another draw would keep it
// under the wrong key. Faults have struck then. Header rules speak of the caller, for
// what they say is a part of the key.
type chosen struct {
	r      *route
	to     *place
	caller *policy.Call
}

type chosenKey struct{}

// fetch is the part of cached for an answer that is not there, or not fresh.
func (c *Conn) fetch(ctx context.Context, call *policy.Call, r *route, to *place, req, key []byte) (*cache.Entry, cache.Status, error) {
	k := r.kept
	if err := c.struck(ctx, call, r); err != nil { // Whoever asks for a failure has it alone.
		return nil, k.route.Bypassed(), err
	}
	req = bytes.Clone(req) // The fetch may outlive the call, which lends it.
	tags, err := k.names(policy.Message{Wire: req}, nil, r.method)
	if err != nil {
		return nil, k.route.Bypassed(), status.Error(codes.InvalidArgument, msgBadRequest)
	}
	var sent *policy.Call
	e, s, err := k.route.Do(ctx, key, tags, k.open, func(ctx context.Context) (e *cache.Entry, err error) {
		ctx, sent = k.detach(ctx, call, r, to)
		defer c.notPanicking(ctx, r, &err)
		return c.fetched(ctx, sent, r, req, tags)
	})
	if s == cache.Miss && ctx.Err() == nil && sent != nil {
		call.Upstream, call.Backend, call.Variant, call.Attempts, call.Breaker = sent.Upstream, sent.Backend, sent.Variant, sent.Attempts, sent.Breaker
	}
	if err != nil && ctx.Err() != nil { // This caller's end, not the fetch's.
		err = publicStatus(ctx, statusOf(err), call.Edge == policy.EdgeGRPC).Err()
	}
	return e, s, err
}

// shared says whether others are given the answer to a call: everybody, or all who have
// no credential, who are one principal.
func (k *kept) shared(p *policy.Principal) bool {
	return k.route.Rule().Public || !p.Authenticated()
}

// wantsName says that a service, or a branch of a composite, has refused a call because
// it was not told who calls, whom it may let in. She asks again by her own name, and has
// the answer alone.
func (k *kept) wantsName(call *policy.Call, err error) bool {
	code := status.Code(err)
	return k.shared(call.Principal) && call.Principal.Authenticated() && (code == codes.Unauthenticated || code == codes.PermissionDenied)
}

// detach is the context of a fetch, with a call of its own. What the key does not hold
// must not shape an answer that others get, so the service is not told who asks then.
func (k *kept) detach(ctx context.Context, call *policy.Call, r *route, to *place) (context.Context, *policy.Call) {
	ctx, caller := policy.Detach(ctx)
	if caller == nil || !k.shared(call.Principal) {
		ctx, sent := policy.Detach(context.WithValue(ctx, chosenKey{}, chosen{r, to, caller}))
		if sent != nil && r.here != nil { // A composite: its branches would pass on what its own key does not hold.
			sent.Headers = r.pass.Only(sent.Headers)
		}
		return ctx, sent
	}
	if call.Headers != nil && len(call.Headers("x-request-id")) > 0 {
		caller.RequestID = telemetry.RequestID("")
	}
	ctx = telemetry.WithoutTraceState(ctx)
	return policy.DetachUnnamed(context.WithValue(ctx, chosenKey{}, chosen{r, to, caller}), caller.RequestID)
}

// notPanicking is for the goroutine of a fetch, where no edge recovers.
func (c *Conn) notPanicking(ctx context.Context, r *route, err *error) {
	if v := recover(); v != nil {
		c.o.Logger.ErrorContext(ctx, "a fetch for the cache panicked", "grpc_method", r.method.FullName, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, msgInternal)
	}
}

// fetched calls the service and says what of its answer may be kept.
func (c *Conn) fetched(ctx context.Context, call *policy.Call, r *route, req []byte, tags []string) (*cache.Entry, error) {
	k, in := r.kept, policy.Message{Wire: req}
	var f wire.Frame
	call.Unread = &f // It is read here, before anyone is told that all is well.
	beside, opts := r.besides()
	err := c.call(ctx, call, r, &wire.Frame{Data: req}, &f, opts...)
	k.changed(call, &wire.Frame{Data: req}, &f, err)
	if err != nil {
		call.Done(err)
	}
	if status.Code(err) == codes.NotFound && k.route.Rule().NegativeTTL > 0 {
		return &cache.Entry{Err: err, Meta: beside, MetaBytes: 512 + beside.bytes(), Tags: tags}, nil
	}
	if err != nil {
		return nil, beside.failed(err)
	}
	e := &cache.Entry{Body: bytes.Clone(f.Data), Meta: beside, MetaBytes: beside.bytes(), Tags: tags} // The frame's memory is a pool's, and may be far larger.
	f.Free()
	unreadable := r.unreadable(e.Body)
	call.AnswerRead(unreadable)
	call.Done(nil)
	e.NoStore = unreadable != nil || k.lacks(e.Body)
	if k.open && !e.NoStore {
		if e.Tags, err = k.names(in, e.Body, r.method); err != nil {
			e.NoStore = true
		}
	}
	return e, nil
}

// unreadable says why an answer is not what its descriptor says.
func (r *route) unreadable(body []byte) error {
	if r.answer == nil {
		return proto.Unmarshal(body, &emptypb.Empty{})
	}
	return r.answer.Check(body)
}

// lacks says whether a composite had to leave something out. What cannot be read
// counts as lacking.
func (k *kept) lacks(b []byte) bool {
	if k.partial == 0 {
		return false
	}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeField(b)
		if n < 0 || num == k.partial && typ == protowire.BytesType {
			return true
		}
		b = b[n:]
	}
	return false
}

// give sets out to the answer. Frames share its memory, which they do not own and
// cannot append to.
func give(body []byte, out any, r *route) error {
	switch out := out.(type) {
	case *wire.Frame:
		*out = wire.Frame{Data: body[:len(body):len(body)]}
		return nil
	case *emptypb.Empty:
		if r.answer != nil {
			if err := r.answer.Check(body); err != nil {
				return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
			}
			out.ProtoReflect().SetUnknown(bytes.Clone(body))
			return nil
		}
	}
	return wire.Cloner{}.Copy(out, &wire.Frame{Data: body})
}
