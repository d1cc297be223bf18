package policy

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// HTTPOptions say what a route to a plain HTTP service is held to. Require is needed.
type HTTPOptions struct {
	Require *policyv1.Require
	Limit   *policyv1.Limit
	// Idempotent says that asking twice has the effect of asking once.
	Idempotent bool
	Retry      *policyv1.Retry
	Cache      *policyv1.Cache
	// Deadline bounds the time until the answer's header; StreamIdle the silence of
	// bodies and WebSockets after that, StreamMaxAge the whole; 0 does not.
	Deadline, StreamIdle, StreamMaxAge time.Duration
	MaxRequestBytes                    int64
	// Variables are those of the route's path: what owner and tenant may name.
	Variables []string
}

// HTTPRule resolves the rule of a plain HTTP route. The error joins everything that
// is wrong. Conditions see the principal alone: their `request` is
// google.protobuf.Empty, so one that names a field of it does not compile.
func HTTPRule(o HTTPOptions) (Rule, error) {
	m := &Method{Rule: Rule{Deadline: o.Deadline, StreamIdle: o.StreamIdle, StreamMaxAge: o.StreamMaxAge, MaxRequestBytes: o.MaxRequestBytes, SuccessCode: 200, BranchShare: DefaultBranchShare}}
	r := &m.Rule
	var errs []error
	if err := m.fillWho(o.Require); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, r.fillVariables(o.Require, o.Variables), m.conditions((*emptypb.Empty)(nil).ProtoReflect().Type(), o.Require.GetConditions()))
	switch l := o.Limit; {
	case l.GetCost() < 0:
		errs = append(errs, fmt.Errorf("limit.cost %d is negative", l.GetCost()))
	case l.GetClass() == "" && l.GetCost() != 0:
		errs = append(errs, errors.New("limit.cost without limit.class"))
	}
	r.LimitClass, r.LimitCost = o.Limit.GetClass(), max(1, int(o.Limit.GetCost()))
	r.Idempotent = o.Idempotent
	var err error
	// GET, HEAD and OPTIONS may be tried again whatever the route says of the rest.
	if r.Retry, err = CompileRetry(o.Retry, true); err != nil {
		errs = append(errs, err)
	}
	if r.Cache, err = CompileCache(o.Cache); err != nil {
		errs = append(errs, err)
	}
	if r.Cache != nil && r.Cache.Public && r.OwnerByService {
		errs = append(errs, errors.New("cache.scope PUBLIC with owner_checked_by_service: the answer is not the same for everyone"))
	}
	return m.Rule, errors.Join(errs...)
}

// NewHTTPMethod makes a plain HTTP route a method, so that every check sees it as it
// sees an RPC. It has no Descriptor. Its FullName is `/http/` and the route's name,
// which no RPC can have: no package is called http with a service in lower case and
// a hyphen, and the root refuses a service `http`. Service is the upstream's name,
// the audience of assertions.
func NewHTTPMethod(name, upstream string, rule Rule) *Method {
	return &Method{FullName: "/http/" + name, Service: upstream, Rule: rule}
}

// fillVariables reads owner and tenant, which are variables of the path here.
func (r *Rule) fillVariables(q *policyv1.Require, variables []string) error {
	var errs []error
	r.OwnerByService = q.GetOwnerCheckedByService()
	for _, v := range []struct {
		what, name string
		to         **FieldPath
	}{{"owner", q.GetOwner(), &r.Owner}, {"tenant", q.GetTenant(), &r.Tenant}} {
		switch {
		case v.name == "":
		case q.GetPublic():
			errs = append(errs, fmt.Errorf("%s: the callers of a public route need not have one", v.what))
		case !slices.Contains(variables, v.name):
			errs = append(errs, fmt.Errorf("%s: %q is no variable of the path: use match.template with {%s}, or a named group of match.regex", v.what, v.name, v.name))
		default:
			*v.to = &FieldPath{path: v.name, variable: true}
		}
	}
	if q.GetPublic() && r.OwnerByService {
		errs = append(errs, errors.New("a public route has no owner"))
	}
	if q.GetOwner() != "" && r.OwnerByService {
		errs = append(errs, errors.New("owner and owner_checked_by_service exclude each other"))
	}
	return errors.Join(errs...)
}
