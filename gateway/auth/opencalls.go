package auth

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// OpenCallsOptions make OpenCalls.
type OpenCallsOptions struct {
	// Authenticator returns the one that new calls are authenticated by. Needed.
	Authenticator func() *Authenticator
	// Interval between two looks at all open calls where nothing was said to have
	// changed; 0 means five seconds.
	Interval time.Duration
	// Log gets a line for each call that is ended; nil means slog.Default().
	Log *slog.Logger
	// Metrics gets sluice_revoked_calls_total; nil means nobody.
	Metrics prometheus.Registerer
}

// OpenCalls are the calls that stay open: streams, WebSockets, long exchanges. They
// end when a new call with the same credentials would be refused: a credential that was
// taken away must not be of use to those who hold a stream open. It is safe for
// concurrent use.
//
// The credentials of open calls are asked about again after each change of what is known
// of credentials, and at intervals, for what changes without a word: keys of an issuer
// that it has withdrawn, authorities of client certificates, files that could not be read
// for too long.
type OpenCalls struct {
	o       OpenCallsOptions
	revoked prometheus.Counter
	ask     chan struct{} // has room for one: any number of changes is one look

	mu   sync.Mutex
	open map[*openCall]struct{}
}

// openCall is what is kept of a call: the call itself belongs to its goroutine.
type openCall struct {
	requestID, method string
	shown             shown
	principal         *policy.Principal
	end               func(error)
}

// NewOpenCalls returns OpenCalls of which none is open. Run looks after them.
func NewOpenCalls(o OpenCallsOptions) (*OpenCalls, error) {
	if o.Interval <= 0 {
		o.Interval = watchInterval
	}
	o.Log = orDefaultLog(o.Log)
	calls := &OpenCalls{
		o: o, ask: make(chan struct{}, 1), open: map[*openCall]struct{}{},
		revoked: prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_revoked_calls_total",
			Help: "Streams, WebSockets and other open calls that were ended because their credential is not accepted any more."}),
	}
	if o.Metrics != nil {
		if err := o.Metrics.Register(calls.revoked); err != nil {
			return nil, fmt.Errorf("metrics of open calls: %w", err)
		}
	}
	return calls, nil
}

// Watch has end called, once or not at all, with the status error to answer with when the
// credentials of the call are not accepted any more. The returned function ends the
// watching. A call that showed no credential has none to lose; a branch ends with the
// call of its composite.
func (o *OpenCalls) Watch(c *policy.Call, end func(error)) (stop func()) {
	if c.Shown.Principal == nil || c.Edge == policy.EdgeBranch {
		return func() {}
	}
	call := &openCall{requestID: c.RequestID, principal: c.Shown.Principal, end: end, shown: shown{
		edge: c.Edge, authorization: c.Shown.Authorization, apiKey: c.Shown.APIKey, certificate: c.PeerCertificate, chains: c.PeerChains, again: true,
	}}
	if c.Method != nil {
		call.method = c.Method.FullName
	}
	o.mu.Lock()
	o.open[call] = struct{}{}
	o.mu.Unlock()
	// The credential may have been taken away since the call was let in.
	if why, err := o.o.Authenticator().again(&call.shown, call.principal); err != nil {
		o.revoke(call, why, err)
	}
	return func() { o.take(call) }
}

// take ends the watching of a call, and says whether it was watched.
func (o *OpenCalls) take(call *openCall) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, was := o.open[call]
	delete(o.open, call)
	return was
}

// Changed says that what is known of credentials has changed: all open calls are looked
// at, soon.
func (o *OpenCalls) Changed() {
	select {
	case o.ask <- struct{}{}:
	default:
	}
}

// Run looks after open calls until ctx ends.
func (o *OpenCalls) Run(ctx context.Context) {
	tick := time.NewTicker(o.o.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-o.ask:
		}
		o.look()
	}
}

// look ends the calls whose credentials are not accepted any more. Calls with the same
// credentials share a principal, so these are asked about once.
func (o *OpenCalls) look() {
	o.mu.Lock()
	calls := make([]*openCall, 0, len(o.open))
	for c := range o.open {
		calls = append(calls, c)
	}
	o.mu.Unlock()
	type sameCredentials struct {
		principal *policy.Principal
		edge      policy.Edge // Listeners trust authorities of their own.
		leaf      *x509.Certificate
	}
	type verdict struct {
		why string
		err error
	}
	a, known := o.o.Authenticator(), map[sameCredentials]verdict{}
	for _, c := range calls {
		same := sameCredentials{c.principal, c.shown.edge, c.shown.certificate}
		v, ok := known[same]
		if !ok {
			v.why, v.err = a.again(&c.shown, c.principal)
			known[same] = v
		}
		if v.err != nil {
			o.revoke(c, v.why, v.err)
		}
	}
}

// revoke ends a call, unless it has ended by itself.
func (o *OpenCalls) revoke(c *openCall, why string, err error) {
	if !o.take(c) {
		return
	}
	o.revoked.Inc()
	o.o.Log.Info("an open call ends: its credential is not accepted any more",
		"request_id", c.requestID, "method", c.method, "principal", c.principal.Subject, "error", err, "why", why)
	c.end(err)
}

// again authenticates anew a call that was let in as was. The error is the refusal that
// a new call with the same credentials would meet; nil where that cannot be told now.
func (a *Authenticator) again(s *shown, was *policy.Principal) (why string, err error) {
	// One call after another is asked about, so none may wait for an issuer's keys: a
	// context that has ended starts a fetch and does not wait for it.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p, why, err := a.principal(ctx, s)
	switch {
	case err != nil && status.Code(err) == codes.Unauthenticated:
		return why, err
	case err != nil:
		return "", nil
	case p == was:
		return "", nil
	case p == nil, p.Subject != was.Subject, p.Tenant != was.Tenant,
		slices.ContainsFunc(was.Scopes(), func(scope string) bool { return !slices.Contains(p.Scopes(), scope) }):
		return "it stands for another caller, or for fewer scopes", refuse(reasonChanged, "the credential has changed: connect again")
	}
	return "", nil
}
