package gateway

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// The phases of a call, as explanations name them; see chain.go.
const (
	phaseArrival = "arrival"
	phaseEdge    = "edge"
	phaseBranch  = "branch"
	phaseEntry   = "entry"
)

// stepAuthenticate is the step of the edge chain that says who calls. An
// explanation may assume it.
const stepAuthenticate = "authenticate"

// recorder watches the calls of a gateway that Explain built: every step of
// every chain, and what would be sent where. A nil recorder watches nothing.
type recorder struct {
	assumed *policy.Principal // stands in for authentication; nil means that it runs

	mu    sync.Mutex
	calls []*recorded
	log   []string
	// route is the template that the REST edge found; empty means none.
	route string
}

// recorded is one call, or one branch of a composite.
type recorded struct {
	call  *policy.Call
	phase string
	steps []ExplainedStep
	sent  *ExplainedUpstream
}

// watch returns the chain with a first step that makes calls report to r.
func (r *recorder) watch(phase string, ch policy.Chain) policy.Chain {
	if r == nil {
		return ch
	}
	out := policy.Chain{{Check: func(ctx context.Context, c *policy.Call) (context.Context, error) {
		r.enter(c, phase)
		c.Trace = r.step
		return ctx, nil
	}}}
	for _, s := range ch {
		if s.Name == stepAuthenticate && r.assumed != nil {
			s.Check = func(ctx context.Context, c *policy.Call) (context.Context, error) {
				c.Principal = r.assumed
				return ctx, nil
			}
		}
		out = append(out, s)
	}
	return out
}

// of finds the record of a call; r.mu is held.
func (r *recorder) of(c *policy.Call) *recorded {
	for _, rec := range r.calls {
		if rec.call == c {
			return rec
		}
	}
	rec := &recorded{call: c}
	r.calls = append(r.calls, rec)
	return rec
}

func (r *recorder) enter(c *policy.Call, phase string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(c).phase = phase
}

// step is policy.Call.Trace. Branches of a composite run at once.
func (r *recorder) step(c *policy.Call, name string, err error) {
	if name == "" { // The step that watch adds.
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.of(c)
	s := ExplainedStep{Phase: rec.phase, Name: name, OK: err == nil}
	if err != nil {
		st := status.Convert(err)
		s.Code, s.Message, s.Why = codeName(st), st.Message(), c.Why
		for _, d := range st.Details() {
			if info, ok := d.(*errdetails.ErrorInfo); ok {
				s.Reason = info.GetReason()
			}
		}
	}
	rec.steps = append(rec.steps, s)
}

// send notes what would be sent for the call that ctx carries.
func (r *recorder) send(ctx context.Context, target string, messages []string) {
	c := policy.Admitted(ctx)
	if c == nil {
		return
	}
	bound := c.Method.Rule.Deadline
	if c.Method.Streaming() {
		bound = c.Method.Rule.StreamMaxAge
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(c).sent = &ExplainedUpstream{Target: target, Method: c.Method.FullName[1:], Messages: messages, Deadline: bound.String()}
}

// Enabled, Handle, WithAttrs and WithGroup make a recorder the handler of the
// gateway's log: the access log says what the REST edge matched, and a warning
// what an operator should know.
func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (r *recorder) Handle(_ context.Context, rec slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := []string{rec.Message}
	rec.Attrs(func(a slog.Attr) bool {
		if a.Key == "route" {
			r.route = a.Value.String()
		}
		line = append(line, a.String())
		return true
	})
	if rec.Level >= slog.LevelWarn {
		r.log = append(r.log, strings.Join(line, " "))
	}
	return nil
}

// WithAttrs implements slog.Handler; what loggers of parts add is left out.
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler { return r }

// WithGroup implements slog.Handler.
func (r *recorder) WithGroup(string) slog.Handler { return r }

// result is the call, with its branches below it, or nil.
func (r *recorder) result(g *Gateway) *ExplainedCall {
	r.mu.Lock()
	defer r.mu.Unlock()
	var top *ExplainedCall
	var branches []*ExplainedCall
	for _, rec := range r.calls {
		c := g.serving().explained(rec)
		if rec.call.Edge == policy.EdgeBranch {
			branches = append(branches, c)
			continue
		}
		top = c
	}
	if top == nil {
		return nil
	}
	// They run at once: only their names have an order.
	slices.SortStableFunc(branches, func(a, b *ExplainedCall) int { return strings.Compare(a.Method, b.Method) })
	top.Branches = branches
	return top
}
