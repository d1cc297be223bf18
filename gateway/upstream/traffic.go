package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// ServiceOptions are what stands between callers and a service. What is nil is off:
// without Resilience nothing is tried again, and nothing is refused.
type ServiceOptions struct {
	// Resilience decides what may be sent, and tried again. It is not for composites:
	// what fails there are branches, each with a service of its own.
	Resilience *resilience.Service
	// Canaries are asked in order; the first that a call falls into gets it.
	Canaries []Canary
	// Shadow gets copies of calls.
	Shadow *Shadow
	// Faults are failures on purpose.
	Faults []Fault
}

// MethodHeaders are changes of headers around an RPC. Both are of a Scope of gRPC.
type MethodHeaders struct {
	// Request adds metadata to what the service gets.
	Request *headers.Program
	// Response adds headers to the answer, and to refusals of the service.
	Response *headers.Program
}

// destination is where a method's calls go: the service itself, or a canary of it.
type destination struct {
	target  Target
	here    *inProcess // the target, where the service runs in this process
	name    string     // the target's
	variant string     // the canary's name; empty for the service itself
	service *resilience.Service
	class   *resilience.Method // nil where nothing is refused or tried again
}

// otherClass is the class of methods that no class of limits counts.
const otherClass = "other"

func newDestination(m *policy.Method, t Target, variant string, s *resilience.Service) destination {
	p := destination{target: t, name: t.String(), variant: variant}
	p.here, _ = t.(*inProcess)
	if s == nil || p.here != nil && p.here.host.Prompt {
		return p
	}
	class := m.Rule.LimitClass
	if class == "" {
		class = otherClass
	}
	p.service, p.class = s, s.Method(class, m.FullName)
	return p
}

// traffic is what a route does beside sending; nil where it does nothing.
type traffic struct {
	canaries []canary
	shadow   *shadower
	faults   []fault
	headers  MethodHeaders
}

// configure puts into the routes what the options say of them.
func (c *Conn) configure() error {
	services := map[string]*service{}
	for name, o := range c.o.Services {
		s, err := c.newService(name, o)
		if err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
		services[name] = s
	}
	for name := range c.o.Headers {
		if c.routes[name] == nil {
			return fmt.Errorf("headers of %s: there is no such method", name)
		}
	}
	for _, r := range c.routes {
		t := &traffic{headers: c.o.Headers[r.method.FullName]}
		s := services[r.method.Service]
		if s != nil {
			s.configure(r, t)
		}
		if s != nil || t.headers != (MethodHeaders{}) {
			r.traffic = t
		}
	}
	return nil
}

// service is ServiceOptions, checked.
type service struct {
	ServiceOptions
	shadower *shadower
}

func (c *Conn) newService(name string, o ServiceOptions) (*service, error) {
	methods := map[string]bool{}
	for _, r := range c.routes {
		if r.method.Service == name {
			methods[string(r.method.Descriptor.Name())] = true
		}
	}
	if len(methods) == 0 {
		return nil, errors.New("none of its methods is offered")
	}
	s := &service{ServiceOptions: o}
	seen := map[string]bool{}
	for i := range o.Canaries {
		v := &o.Canaries[i]
		if err := errors.Join(v.check(), offered(methods, v.Methods)); err != nil {
			return nil, fmt.Errorf("canary %q: %w", v.Name, err)
		}
		if seen[v.Name] {
			return nil, fmt.Errorf("canary %q is there twice", v.Name)
		}
		seen[v.Name] = true
	}
	for i := range o.Faults {
		if err := errors.Join(o.Faults[i].check(), offered(methods, o.Faults[i].Methods)); err != nil {
			return nil, fmt.Errorf("fault %d: %w", i+1, err)
		}
	}
	if o.Shadow != nil {
		if err := errors.Join(o.Shadow.check(), offered(methods, o.Shadow.Methods)); err != nil {
			return nil, fmt.Errorf("shadow: %w", err)
		}
		s.shadower = c.newShadower(name, o.Shadow)
	}
	return s, nil
}

func (s *service) configure(r *route, t *traffic) {
	r.destination = newDestination(r.method, r.target, "", s.Resilience)
	name := string(r.method.Descriptor.Name())
	for i := range s.Canaries {
		if v := &s.Canaries[i]; applies(v.Methods, name) {
			t.canaries = append(t.canaries, v.on(r.method))
		}
	}
	for i := range s.Faults {
		if f := &s.Faults[i]; applies(f.Methods, name) {
			t.faults = append(t.faults, f.compile())
		}
	}
	if s.Shadow != nil && !r.method.Streaming() {
		if slices.Contains(s.Shadow.Methods, name) || len(s.Shadow.Methods) == 0 && r.method.Rule.Idempotent {
			t.shadow = s.shadower
		}
	}
}

func applies(methods []string, name string) bool {
	return len(methods) == 0 || slices.Contains(methods, name)
}

func offered(methods map[string]bool, named []string) error {
	for _, name := range named {
		if !methods[name] {
			return fmt.Errorf("the service offers no method %q", name)
		}
	}
	return nil
}

// most is the time that the call has by its rule and, as a branch, by its share; it
// says whether that is for the caller's sake.
func (r *route) most(call *policy.Call, start time.Time) (most time.Duration, shortened bool) {
	most = r.method.Rule.Deadline
	if call.ShareEnds.IsZero() {
		return most, false
	}
	if share := call.ShareEnds.Sub(start); share < most {
		return share, call.Shortened
	}
	return most, false
}

// ends notes when the call must have ended, and whose wish that is. A branch's context
// ends no later than its composite's share of time does, so there the composite's caller
// is who may be in a hurry.
func (r *route) ends(ctx context.Context, call *policy.Call, start time.Time, most time.Duration, shortened bool) {
	call.Ends = start.Add(most)
	if end, ok := ctx.Deadline(); ok && end.Before(call.Ends) {
		call.Ends = end
		shortened = call.Edge != policy.EdgeBranch || call.Shortened
	}
	call.Shortened = shortened
}

// priority of a call: a branch may be one that its composite can do without.
func priority(call *policy.Call) resilience.Priority {
	if call.Optional {
		return resilience.Optional
	}
	return resilience.Whole
}

// prepare is what happens before a call is sent: faults, and the choice of a variant.
// The error is the caller's answer.
func (c *Conn) prepare(ctx context.Context, call *policy.Call, r *route) (*destination, error) {
	t := r.traffic
	if t == nil {
		return &r.destination, nil
	}
	if r.caching != nil && r.caching.route != nil {
		if is, ok := ctx.Value(chosenKey{}).(chosen); ok && is.r == r {
			call.Variant = is.to.variant
			return is.to, nil
		}
	}
	if err := c.fails(ctx, call, r); err != nil {
		return nil, err
	}
	return r.choose(call), nil
}

// fails lets a call have its faults.
func (c *Conn) fails(ctx context.Context, call *policy.Call, r *route) error {
	for i := range r.traffic.faults {
		if err := c.fail(ctx, call, r, &r.traffic.faults[i]); err != nil {
			return err
		}
	}
	return nil
}

// struck is fails for a call whose answer would be fetched for others, too.
func (c *Conn) struck(ctx context.Context, call *policy.Call, r *route) error {
	if r.traffic == nil || len(r.traffic.faults) == 0 {
		return nil
	}
	ctx, cancel := r.within(ctx, time.Now(), r.method.Rule.Deadline)
	defer cancel()
	return c.fails(ctx, call, r)
}

// choose says which variant gets the call, and notes it.
func (r *route) choose(call *policy.Call) *destination {
	if r.traffic == nil || len(r.traffic.canaries) == 0 {
		return &r.destination
	}
	p := choose(r.traffic.canaries, call)
	if p == nil {
		p = &r.destination
	}
	call.Variant = p.variant
	return p
}

// spokenOf is the call that header rules speak of: the caller's, also where the call that
// is sent for others too has no caller.
func spokenOf(ctx context.Context, call *policy.Call, r *route) *policy.Call {
	if is, ok := ctx.Value(chosenKey{}).(chosen); ok && is.r == r && is.caller != nil {
		return is.caller
	}
	return call
}

// add puts what header rules say into the metadata that goes out.
func (t *traffic) add(md *sent, call *policy.Call, r *route) {
	if t != nil && t.headers.Request != nil {
		t.headers.Request.Apply((*more)(&md.more), headers.Values{Call: call, Route: r.method.FullName[1:]})
	}
}

// respond puts what header rules say on the answer.
func (r *route) respond(call *policy.Call) {
	if r.traffic != nil && r.traffic.headers.Response != nil && call.Annotate != nil {
		r.traffic.headers.Response.Apply(annotations{call}, headers.Values{Call: call, Route: r.method.FullName[1:]})
	}
}

// more is metadata that rules add: a key may come several times.
type more pairs

// Set implements headers.Header, as do those that follow.
func (m *more) Set(key, value string) { *m = append(*m, key, value) }

// Add is Set: what is there is nobody else's.
func (m *more) Add(key, value string) { *m = append(*m, key, value) }

// Del has nothing to take away.
func (*more) Del(string) {}

// annotations are the headers of an answer; those that edges set themselves cannot be
// named by rules.
type annotations struct{ call *policy.Call }

func (a annotations) Set(key, value string) { a.call.Annotate(key, value) }
func (a annotations) Add(key, value string) { a.call.Annotate(key, value) }
func (annotations) Del(string)              {}

// counted is how a code is written in metrics: one of gRPC's.
func counted(code codes.Code) string {
	if code > codes.Unauthenticated {
		code = codes.Unknown
	}
	return code.String()
}
