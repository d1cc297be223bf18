package policy

import (
	"context"
	"crypto/x509"
	"net/netip"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Check decides whether a call may go on. It returns the context to go on
// with, or a status error to answer with. Checks run one after another on the
// goroutine of the call.
type Check func(ctx context.Context, c *Call) (context.Context, error)

// Edge names the side a call came in on.
type Edge string

// The edges. A branch is a call that a composite makes on its caller's behalf.
const (
	EdgeREST   Edge = "rest"
	EdgeGRPC   Edge = "grpc"
	EdgeBranch Edge = "branch"
)

// Call is one request on its way through the gateway. It belongs to the
// goroutine that serves the request until it is admitted, and is only read
// after that, except for Upstream.
type Call struct {
	// Method is the RPC that is called, with its rule. Nil in the arrival phase,
	// before a route was looked for.
	Method *Method
	// Edge is where the call came in.
	Edge Edge
	// RequestID is the id the caller sent or the edge made.
	RequestID string
	// Peer is the address the connection came from.
	Peer netip.AddrPort
	// Client is the caller's address: the peer's, or what a trusted proxy says.
	Client netip.Addr
	// PeerCertificate is the verified certificate of the caller, or nil.
	PeerCertificate *x509.Certificate
	// PeerChains are those by which PeerCertificate was verified when the connection
	// began: its authority may have been removed since.
	PeerChains [][]*x509.Certificate
	// Headers returns the values of a request header or metadata key, whatever
	// its case. Never nil on calls that an edge makes.
	Headers func(key string) []string
	// BytesDecoded says that Headers gives binary values (of keys that end in -bin) as
	// their bytes, as grpc-go does, and not in base64, as HTTP has them.
	BytesDecoded bool
	// Unnamed says that the call is made for an answer that others get, too, by a fetch
	// or by a branch of what is fetched: no service is told who asks.
	Unnamed bool
	// Writes says that the request came over REST with a method that is not safe (RFC
	// 9110, 9.2.1): nothing cached answers it, or is good for its path afterwards.
	Writes bool
	// Annotate adds a header to the answer. Never nil on calls that an edge makes.
	Annotate func(key, value string)

	// Principal is who calls: set by authentication, Anonymous before.
	Principal *Principal
	// Shown is what authentication took the principal from. Set by it, for a call that
	// stays open to be authenticated again.
	Shown Shown
	// Message is what is about to be sent. Set in the entry phase only.
	Message Message
	// Upstream names the target that served the call, for the access log.
	Upstream string
	// Backend is the address among the target's that answered, where it has several;
	// Variant the canary that the call went to (empty means the service itself);
	// Attempts how often the service was called; Cache what the response cache did
	// (hit, stale, miss, …; empty: no rule); Breaker what refused the call before the
	// service was asked (breaker, concurrency). All for the access log.
	Backend, Variant string
	Attempts         int
	Cache, Breaker   string
	// ShareEnds is when a branch has had its share of its composite's time; zero means
	// that it has no share. Ends is when the call itself must have ended, and Shortened
	// that the caller wants it so, where its rule would give more time: that the time is
	// over then says nothing of the service. Upstream writes both when it sends the call.
	ShareEnds, Ends time.Time
	Shortened       bool
	// Optional says of a branch that its composite can do without it: where a service has
	// too much to do, such calls are refused before those that somebody waits for.
	Optional bool
	// DeniedBy names the check that refused the call, for the access log.
	DeniedBy string
	// Why is what the check that refused tells the operator alone, such as the
	// condition that did not hold. For the access log.
	Why string
	// Trace, when not nil, is told of every step of every chain that the call
	// and its branches run through, with the step's outcome: for `sluice explain`.
	Trace func(c *Call, step string, err error)

	admitted bool
	carried  carried
	onDone   []func(error)
}

// Shown is what a call showed of credentials, beside the certificate of its connection.
type Shown struct {
	// Authorization and APIKey are the values of those headers. Not to be changed.
	Authorization, APIKey []string
	// Principal is whom they stood for; nil means that the call showed nothing.
	Principal *Principal
}

// carried is the context that carries a call, in which it stands: admission then
// makes no context of its own.
type carried struct {
	context.Context
	c *Call
}

func (a *carried) Value(key any) any {
	if key == (callKey{}) {
		return a.c
	}
	return a.Context.Value(key)
}

// Message is a request message as the bytes of its wire form: those that will be sent,
// whichever edge or composite they come from. A request to a plain HTTP service has none
// that anyone could read.
type Message struct {
	// Wire is lent and not to be changed. It holds until the call is done, functions
	// given to OnDone included; on a stream, until the check returns. Who keeps it longer
	// clones it.
	Wire []byte
	// Variable returns the decoded variables of a plain HTTP request's path; nil for
	// an RPC.
	Variable func(name string) (value string, ok bool)
}

// OnDone registers f to run once, when the call or stream has ended, with its
// outcome.
func (c *Call) OnDone(f func(error)) { c.onDone = append(c.onDone, f) }

// Done ends the call: the edge that made it calls this once. What was
// registered last runs first. Each function is taken off before it runs, so
// none runs twice, and one that registers another still sees it run.
func (c *Call) Done(err error) {
	for len(c.onDone) > 0 {
		last := len(c.onDone) - 1
		f := c.onDone[last]
		c.onDone = c.onDone[:last]
		f(err)
	}
}

// Step is a check with the name that logs and metrics know it by.
type Step struct {
	Name  string
	Check Check
}

// Chain is an ordered list of checks.
type Chain []Step

// Admit runs the checks on c; when all agree it returns a context that carries
// c as admitted. gateway/upstream refuses calls whose context carries none.
func (ch Chain) Admit(ctx context.Context, c *Call) (context.Context, error) {
	if c.Principal == nil {
		c.Principal = Anonymous
	}
	ctx, err := ch.Run(ctx, c)
	if err != nil {
		return ctx, err
	}
	c.admitted = true
	if c.carried.c != nil { // A context of it is about already, and must stay what it is.
		return context.WithValue(ctx, callKey{}, c), nil
	}
	c.carried = carried{ctx, c}
	return &c.carried, nil
}

// Run runs the checks on c and stops at the first that refuses.
func (ch Chain) Run(ctx context.Context, c *Call) (context.Context, error) {
	for i := range ch {
		next, err := ch[i].Check(ctx, c)
		if c.Trace != nil {
			c.Trace(c, ch[i].Name, err)
		}
		if err != nil {
			c.DeniedBy = ch[i].Name
			return ctx, err
		}
		ctx = next
	}
	return ctx, nil
}

type callKey struct{}

// Admitted returns the admitted call that ctx carries, or nil.
func Admitted(ctx context.Context) *Call {
	c, _ := ctx.Value(callKey{}).(*Call)
	if c == nil || !c.admitted {
		return nil
	}
	return c
}

// Carry returns ctx with the admitted call of from. It is how admission
// crosses an in-process connection, whose contexts do not share values.
func Carry(ctx, from context.Context) context.Context {
	c := Admitted(from)
	if c == nil {
		return ctx
	}
	return context.WithValue(ctx, callKey{}, c)
}

// Detach returns ctx, which carries an admitted call, with a copy of that call: for
// work that may outlive the request. Nobody is annotated by it, and nobody's trace is
// told.
func Detach(ctx context.Context) (context.Context, *Call) {
	from := Admitted(ctx)
	if from == nil {
		return ctx, nil
	}
	c := &Call{
		Method:          from.Method,
		BytesDecoded:    from.BytesDecoded,
		Unnamed:         from.Unnamed,
		Edge:            from.Edge,
		RequestID:       from.RequestID,
		Peer:            from.Peer,
		Client:          from.Client,
		PeerCertificate: from.PeerCertificate,
		Headers:         from.Headers,
		Annotate:        func(string, string) {},
		Principal:       from.Principal,
		admitted:        true,
	}
	c.carried = carried{ctx, c}
	return &c.carried, c
}

// DetachUnnamed is Detach for an answer that others get, too: the copy does not say who
// calls, from where and with which headers, so that neither the service nor the branches
// of a composite can make an answer of that. Its request id is the given one: the
// caller's own may be a text that she has chosen.
func DetachUnnamed(ctx context.Context, requestID string) (context.Context, *Call) {
	ctx, c := Detach(ctx)
	if c != nil {
		c.RequestID, c.Principal, c.Unnamed = requestID, Anonymous, true
		c.Peer, c.Client, c.PeerCertificate = netip.AddrPort{}, netip.Addr{}, nil
		c.Headers = func(string) []string { return nil }
	}
	return ctx, c
}

type optionalKey struct{}

// WithOptional returns a context whose branches are ones that their composite can do
// without: the composite makes it, and Branch reads it.
func WithOptional(ctx context.Context) context.Context {
	return context.WithValue(ctx, optionalKey{}, true)
}

// Branch admits a call to m on behalf of parent's principal: the checks see
// the branch's own method, so a composite never reads what its caller could
// not.
func (ch Chain) Branch(ctx context.Context, parent *Call, m *Method) (context.Context, *Call, error) {
	if parent == nil {
		return ctx, nil, status.Error(codes.Internal, "branch without an admitted call")
	}
	c := &Call{
		Method:          m,
		Edge:            EdgeBranch,
		RequestID:       parent.RequestID,
		Peer:            parent.Peer,
		Client:          parent.Client,
		PeerCertificate: parent.PeerCertificate,
		Headers:         parent.Headers,
		BytesDecoded:    parent.BytesDecoded,
		Unnamed:         parent.Unnamed,
		Annotate:        func(string, string) {},
		Principal:       parent.Principal,
		Trace:           parent.Trace,
		Optional:        ctx.Value(optionalKey{}) != nil,
	}
	if !parent.Ends.IsZero() {
		if left := time.Until(parent.Ends); left > 0 && parent.Method != nil {
			c.ShareEnds = parent.Ends.Add(-left / 100 * time.Duration(100-parent.Method.Rule.BranchShare))
			c.Shortened = parent.Shortened
		}
	}
	ctx, err := ch.Admit(ctx, c)
	return ctx, c, err
}
