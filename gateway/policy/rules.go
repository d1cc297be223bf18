package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"

	"github.com/sluice-gateway/sluice/gateway/policy/condition"
)

// Rule is what the gateway holds an RPC to: the method's annotation over the
// service's over the gateway's defaults.
type Rule struct {
	// Public lets everybody in, Authenticated every verified caller.
	Public        bool
	Authenticated bool
	// Scopes are needed all, of AnyScopes one.
	Scopes    []string
	AnyScopes []string
	// Owner is the request field that names the owner; nil means that none does.
	Owner *FieldPath
	// OwnerByService says that the service decides about the owner.
	OwnerByService bool
	// Tenant is the request field that names the tenant; nil means that none does.
	Tenant *FieldPath
	// Conditions must hold all.
	Conditions []*condition.Program

	// LimitClass names the class of limits that a call takes LimitCost tokens
	// from, at least 1. Empty means that calls are not counted.
	LimitClass string
	LimitCost  int

	// Deadline bounds a unary call.
	Deadline time.Duration
	// StreamIdle bounds the silence on a stream, StreamMaxAge its life.
	StreamIdle, StreamMaxAge time.Duration
	Idempotent               bool
	// Retry says how a unary call that failed is tried again.
	Retry Retry
	// Cache says how long answers are kept; nil means not at all.
	Cache *Cache
	// Invalidates are the tags of kept answers that a success makes untrue.
	Invalidates []string
	// BranchShare is the percent of the time left that a branch of this composite may
	// take.
	BranchShare int

	// UnauthenticatedByService says that the service's UNAUTHENTICATED is for the caller.
	UnauthenticatedByService bool
	// Metadata names what passes between callers and the service beside the messages.
	// headers.CompilePass checks it.
	Metadata Metadata

	// MaxRequestBytes bounds a request message.
	MaxRequestBytes int64
	// SuccessCode is the HTTP status of a success.
	SuccessCode int
	// Location is the template of the Location header; empty means none.
	Location string
	// MediaTypes are those of an answer that is raw (google.api.HttpBody). They are for
	// documents: the service says what it sends.
	MediaTypes []string
	// IdempotencyKey is the request field that the Idempotency-Key header fills.
	IdempotencyKey protoreflect.FieldDescriptor
}

// Method is an RPC that the gateway offers.
type Method struct {
	// FullName is as gRPC writes it: /package.Service/Method.
	FullName string
	// Service is the full name of the service.
	Service string
	// Descriptor is the RPC's; nil for a plain HTTP route (see NewHTTPMethod).
	Descriptor protoreflect.MethodDescriptor
	Rule       Rule
}

// Streaming says whether either side of the call is a stream. A plain HTTP route is
// none: whether a body streams, only the exchange shows.
func (m *Method) Streaming() bool {
	if m.Descriptor == nil {
		return false
	}
	return m.Descriptor.IsStreamingClient() || m.Descriptor.IsStreamingServer()
}

// Defaults fill what neither method nor service states.
type Defaults struct {
	Deadline, StreamIdle, StreamMaxAge time.Duration
	MaxRequestBytes                    int64
}

// Override stands in for values of one method's rule; zero values change
// nothing.
type Override struct {
	Deadline, StreamIdle, StreamMaxAge time.Duration
	MaxRequestBytes                    int64
	LimitClass                         string
	LimitCost                          int
	// Retry and Cache replace those of the rule; NoCache takes its cache away.
	Retry       *policyv1.Retry
	Cache       *policyv1.Cache
	NoCache     bool
	BranchShare int
	// Metadata replaces that of the rule; nil changes nothing.
	Metadata *policyv1.Metadata
	// UnauthenticatedByService switches it on.
	UnauthenticatedByService bool
}

// NewMethod compiles the rule of an RPC: own is what the method states, service what its
// service does for those of its methods that do not, and d fills what neither says.
// Conditions read requests as input, a type of the RPC's request message.
// The error joins everything that is wrong: a rule that contradicts itself, an owner path
// that leads nowhere. gateway/schema calls it, which reads the two from the descriptors.
func NewMethod(md protoreflect.MethodDescriptor, input protoreflect.MessageType, service, own *policyv1.MethodRule, d Defaults) (*Method, error) {
	name := string(md.Parent().FullName())
	m := &Method{FullName: "/" + name + "/" + string(md.Name()), Service: name, Descriptor: md}
	rule := &policyv1.MethodRule{}
	if service != nil {
		rule = proto.CloneOf(service)
	}
	// Whole fields are replaced, not merged: a default of 500ms under a method's
	// 2s must not add up.
	own.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		rule.ProtoReflect().Set(fd, v)
		return true
	})
	if errs := flat(serviceRule(service), m.suits(own, rule.GetIdempotent()), m.fill(rule, input, d)); len(errs) > 0 {
		for i, err := range errs {
			errs[i] = fmt.Errorf("%s: rule of %s: %w", md.ParentFile().Path(), md.FullName(), err)
		}
		return nil, errors.Join(errs...)
	}
	return m, nil
}

// serviceRule says what stands at a service and never is a default.
func serviceRule(r *policyv1.MethodRule) error {
	if r.GetRequire() != nil {
		return errors.New("who may call is never a default: take require off the service")
	}
	if r.GetUnauthenticatedByService() {
		return errors.New("unauthenticated_by_service is never a default: state it on the methods that need it")
	}
	return nil
}

// flat takes joined errors apart, so that each can say where it is.
func flat(errs ...error) (out []error) {
	for _, err := range errs {
		var joined interface{ Unwrap() []error }
		switch {
		case err == nil:
		case errors.As(err, &joined):
			out = append(out, flat(joined.Unwrap()...)...)
		default:
			out = append(out, err)
		}
	}
	return out
}

// suits says what a method states of its own that its kind of call has no use
// for. A service's defaults may, for its methods are of several kinds.
func (m *Method) suits(own *policyv1.MethodRule, idempotent bool) error {
	if m.Streaming() && own.GetDeadline() != nil {
		return errors.New("deadline is for unary methods: state stream.max_age")
	}
	if !m.Streaming() && own.GetStream() != nil {
		return errors.New("stream is for streaming methods: state deadline")
	}
	if m.Streaming() && (own.GetRetry() != nil || own.GetCache() != nil) {
		return errors.New("retry and cache are for unary methods")
	}
	if own.GetRetry() != nil && !idempotent {
		return errRetryTwice
	}
	if own.GetCache() != nil && !idempotent {
		return errCacheWrites
	}
	return nil
}

func (m *Method) fill(r *policyv1.MethodRule, input protoreflect.MessageType, d Defaults) error {
	return errors.Join(m.fillRequire(r.GetRequire(), input), m.fillBounds(r, d), m.fillSuccess(r), m.fillKey(r.GetIdempotencyKeyField()), m.fillTraffic(r))
}

func (m *Method) fillBounds(r *policyv1.MethodRule, d Defaults) error {
	rule := &m.Rule
	switch l := r.GetLimit(); {
	case l.GetCost() < 0:
		return fmt.Errorf("limit.cost %d is negative", l.GetCost())
	case l.GetClass() == "" && l.GetCost() != 0:
		return errors.New("limit.cost without limit.class")
	case r.GetMaxRequestBytes() < 0:
		return fmt.Errorf("max_request_bytes %d is negative", r.GetMaxRequestBytes())
	}
	rule.LimitClass, rule.LimitCost = r.GetLimit().GetClass(), max(1, int(r.GetLimit().GetCost()))
	rule.Idempotent, rule.UnauthenticatedByService = r.GetIdempotent(), r.GetUnauthenticatedByService()
	rule.Metadata = Metadata{r.GetMetadata().GetRequest(), r.GetMetadata().GetResponse()}
	rule.MaxRequestBytes = d.MaxRequestBytes
	if n := r.GetMaxRequestBytes(); n > 0 {
		rule.MaxRequestBytes = n
	}
	var err error
	if rule.Deadline, err = duration("deadline", r.GetDeadline(), d.Deadline); err != nil {
		return err
	}
	if rule.StreamIdle, err = duration("stream.idle", r.GetStream().GetIdle(), d.StreamIdle); err != nil {
		return err
	}
	rule.StreamMaxAge, err = duration("stream.max_age", r.GetStream().GetMaxAge(), d.StreamMaxAge)
	return err
}

func (m *Method) fillSuccess(r *policyv1.MethodRule) error {
	rule := &m.Rule
	rule.SuccessCode, rule.Location, rule.MediaTypes = 200, r.GetSuccess().GetLocation(), r.GetSuccess().GetMediaTypes()
	if c := int(r.GetSuccess().GetCode()); c != 0 {
		if c < 200 || c > 299 {
			return fmt.Errorf("success.code %d is no success", c)
		}
		rule.SuccessCode = c
	}
	for _, v := range locationVariable.FindAllStringSubmatch(rule.Location, -1) {
		if _, err := CompileFieldPath(m.Descriptor.Output(), v[1]); err != nil {
			return fmt.Errorf("success.location: %w", err)
		}
	}
	if strings.ContainsAny(locationVariable.ReplaceAllString(rule.Location, ""), "{}") {
		return fmt.Errorf("success.location %q: braces hold the path of a response field", rule.Location)
	}
	return nil
}

var locationVariable = regexp.MustCompile(`\{([a-zA-Z0-9_.]+)\}`)

func (m *Method) fillKey(name string) error {
	if name == "" {
		return nil
	}
	in := m.Descriptor.Input()
	if m.Descriptor.IsStreamingClient() {
		return errors.New("idempotency_key_field: a client stream has many messages")
	}
	fd := in.Fields().ByName(protoreflect.Name(name))
	if fd == nil || fd.Kind() != protoreflect.StringKind || singular(fd) != nil {
		return fmt.Errorf("idempotency_key_field: %s has no singular string field %q", in.FullName(), name)
	}
	m.Rule.IdempotencyKey = fd
	return nil
}

// Override puts what the configuration says in the place of the rule's. Like a rule, it
// refuses what would change nothing. It must come before anyone uses the method.
func (m *Method) Override(o Override) error {
	if o.Deadline < 0 || o.StreamIdle < 0 || o.StreamMaxAge < 0 || o.MaxRequestBytes < 0 || o.LimitCost < 0 {
		return errors.New("a value is negative")
	}
	if o.LimitCost > 0 && o.LimitClass == "" && m.Rule.LimitClass == "" {
		return errors.New("limit_cost without a limit class: neither the rule nor limit_class names one")
	}
	if m.Streaming() && o.Deadline > 0 {
		return errors.New("deadline is for unary methods: state stream_max_age")
	}
	if !m.Streaming() && (o.StreamIdle > 0 || o.StreamMaxAge > 0) {
		return errors.New("stream_idle and stream_max_age are for streaming methods: state deadline")
	}
	if o.BranchShare < 0 || o.BranchShare > 100 {
		return errors.New("branch_share_percent must be from 1 to 100")
	}
	if err := m.overrideTraffic(o); err != nil {
		return err
	}
	m.Rule.apply(o)
	return nil
}

func (r *Rule) apply(o Override) {
	for _, v := range []struct{ to, from *time.Duration }{
		{&r.Deadline, &o.Deadline}, {&r.StreamIdle, &o.StreamIdle}, {&r.StreamMaxAge, &o.StreamMaxAge},
	} {
		if *v.from > 0 {
			*v.to = *v.from
		}
	}
	if o.MaxRequestBytes > 0 {
		r.MaxRequestBytes = o.MaxRequestBytes
	}
	if o.LimitClass != "" {
		r.LimitClass = o.LimitClass
	}
	if o.LimitCost > 0 {
		r.LimitCost = o.LimitCost
	}
	if o.Metadata != nil {
		r.Metadata = Metadata{o.Metadata.GetRequest(), o.Metadata.GetResponse()}
	}
	r.UnauthenticatedByService = r.UnauthenticatedByService || o.UnauthenticatedByService
}

func duration(name string, v *durationpb.Duration, otherwise time.Duration) (time.Duration, error) {
	if v == nil {
		return otherwise, nil
	}
	if err := v.CheckValid(); err != nil || v.AsDuration() <= 0 {
		return 0, fmt.Errorf("%s must be a positive duration", name)
	}
	return v.AsDuration(), nil
}
