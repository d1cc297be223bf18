package upstream

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	paths "github.com/sluice-gateway/sluice/gateway/route"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// caching is what a method's rule says about the cache: how its answers are kept, and
// which others it makes untrue. Either may be nothing.
type caching struct {
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

// newCaching is nil where the rule says nothing and no path is changed under which answers
// are cached, or where nothing is kept at all.
func newCaching(c *cache.Cache, m *schema.Method, cached []paths.Template) (*caching, error) {
	rule := m.Rule.Cache
	if c == nil {
		return nil, nil //nolint:nilnil // No cache, nothing to do.
	}
	k := &caching{cache: c}
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
func (c *Conn) cached(ctx context.Context, call *policy.Call, r *route, request *wire.Frame, a *Answer) error {
	if r.caching.route == nil {
		return c.uncached(ctx, call, r, request, a)
	}
	if call.Writes && len(r.caching.targets) > 0 { // RFC 9111, 4: a write is never answered by a cache.
		call.Cache = r.caching.route.Bypassed().String()
		return c.uncached(ctx, call, r, request, a)
	}
	memory := keys.Get().(*[]byte)
	defer func() { keys.Put(memory) }()
	to := r.choose(call)
	key, ok := r.caching.key(memory, call, r, request.Data, a)
	if !ok {
		call.Cache = r.caching.route.Bypassed().String()
		return c.uncached(ctx, call, r, request, a)
	}
	e, s := r.caching.route.Get(key)
	if e == nil {
		var err error
		if e, s, err = c.fetch(ctx, call, r, to, request.Data, key); err != nil && r.caching.wantsName(call, err) {
			call.Cache = r.caching.route.Bypassed().String()
			call.Upstream, call.Backend, call.Variant, call.Attempts, call.Breaker = "", "", "", 0, "" // Of the fetch: this is a call of its own.
			return c.uncached(ctx, call, r, request, a)
		}
		if err != nil {
			call.Cache = s.String()
			err = r.giveFailed(e, err, a)
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
		return r.giveFailed(e, e.Err, a)
	}
	r.give(besidesOf(e), a)
	if e.Kept() {
		a.Cached = e
	}
	a.Message = wire.Frame{Data: e.Body[:len(e.Body):len(e.Body)]} // Shared: nobody can append to it.
	return nil
}

// uncached is a call that goes past the cache, which what it changes does not.
func (c *Conn) uncached(ctx context.Context, call *policy.Call, r *route, request *wire.Frame, a *Answer) error {
	err := c.send(ctx, call, r, request, a)
	r.caching.changed(call, request.Data, a.Message.Data, err)
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

// keys is memory for keys.
var keys = sync.Pool{New: func() any { return new([]byte) }}

// key returns the key of a request's answer, in memory. It is not ok where there is no
// key: the fields that it is made of cannot be read, and the service shall say so; or it
// would take more room than answers have.
func (k *caching) key(memory *[]byte, call *policy.Call, r *route, req []byte, a *Answer) (key []byte, ok bool) {
	if int64(len(req)) > k.cache.MaxEntryBytes()/2 {
		return nil, false
	}
	b := (*memory)[:0]
	b = k.route.AppendKey(b, call.Principal)
	if r.traffic != nil {
		b = r.appendTraffic(b, call, a)
	}
	if r.pass.Requests() {
		if b, ok = r.appendPassed(b, call, a); !ok {
			return nil, false
		}
	}
	if len(k.vary) == 0 {
		b = cache.AppendPart(b, req)
	}
	for _, f := range k.vary {
		var err error
		if b, err = f.Append(b, req); err != nil {
			return nil, false
		}
	}
	*memory = b
	return b, true
}

// appendTraffic appends to a key what the service gets beside the request: which
// variant it is, and what header rules tell of the caller. Anyone can choose a canary or
// send a header, and must not choose for others.
func (r *route) appendTraffic(b []byte, call *policy.Call, a *Answer) []byte {
	if call.Variant != "" {
		b = cache.AppendPart(cache.AppendPart(b, "variant"), call.Variant)
		a.Apart = true
	}
	if p := r.traffic.headers.Request; p.OfCaller() {
		p.EachOfCaller(headers.Values{Call: call, Route: r.method.FullName[1:]}, func(variable, value string) {
			b = cache.AppendPart(cache.AppendPart(b, variable), value)
		})
		a.Apart = true
	}
	return cache.AppendPart(b, "") // No variable is called so: it ends them.
}

// chosen carries the destination for which an answer is fetched: another draw would keep it
// under the wrong key. Faults have struck then. Header rules speak of the caller, for
// what they say is a part of the key.
type chosen struct {
	r      *route
	to     *destination
	caller *policy.Call
}

type chosenKey struct{}

// fetch is the part of cached for an answer that is not there, or not fresh.
func (c *Conn) fetch(ctx context.Context, call *policy.Call, r *route, to *destination, req, key []byte) (*cache.Entry, cache.Status, error) {
	k := r.caching
	if err := c.struck(ctx, call, r); err != nil { // Whoever asks for a failure has it alone.
		return nil, k.route.Bypassed(), err
	}
	req = bytes.Clone(req) // The fetch may outlive the call, which lends it.
	tags, err := k.names(req, nil, r.method)
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
func (k *caching) shared(p *policy.Principal) bool {
	return k.route.Rule().Public || !p.Authenticated()
}

// wantsName says that a service, or a branch of a composite, has refused a call because
// it was not told who calls, whom it may let in. She asks again by her own name, and has
// the answer alone.
func (k *caching) wantsName(call *policy.Call, err error) bool {
	code := status.Code(err)
	return k.shared(call.Principal) && call.Principal.Authenticated() && (code == codes.Unauthenticated || code == codes.PermissionDenied)
}

// detach is the context of a fetch, with a call of its own. What the key does not hold
// must not shape an answer that others get, so the service is not told who asks then.
func (k *caching) detach(ctx context.Context, call *policy.Call, r *route, to *destination) (context.Context, *policy.Call) {
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

// fetched calls the service and says what of its answer may be cached.
func (c *Conn) fetched(ctx context.Context, call *policy.Call, r *route, req []byte, tags []string) (*cache.Entry, error) {
	k, a := r.caching, &Answer{Reads: true} // It is read here, before anyone is told that all is well.
	defer a.Message.Free()
	defer a.Read(nil) // Where something panics before.
	err := c.send(ctx, call, r, &wire.Frame{Data: req}, a)
	k.changed(call, req, a.Message.Data, err)
	beside := r.besides(a)
	if err != nil {
		call.Done(err)
	}
	if status.Code(err) == codes.NotFound && k.route.Rule().NegativeTTL > 0 {
		return &cache.Entry{Err: err, Meta: beside, MetaBytes: 512 + beside.bytes(), Tags: tags}, nil
	}
	if err != nil {
		return nil, beside.failed(err)
	}
	e := &cache.Entry{Body: bytes.Clone(a.Message.Data), Meta: beside, MetaBytes: beside.bytes(), Tags: tags} // The frame's memory is a pool's, and may be far larger.
	unreadable := r.response.Check(e.Body)
	a.Read(unreadable)
	call.Done(nil)
	e.NoStore = unreadable != nil || k.lacks(e.Body)
	if k.open && !e.NoStore {
		if e.Tags, err = k.names(req, e.Body, r.method); err != nil {
			e.NoStore = true
		}
	}
	return e, nil
}

// lacks says whether a composite had to leave something out. What cannot be read
// counts as lacking.
func (k *caching) lacks(b []byte) bool {
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
