package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"

	"github.com/sluice-gateway/sluice/gateway/policy/condition"
)

// fillRequire reads who may call, and what narrows it. Everything that is wrong
// is told at once.
func (m *Method) fillRequire(q *policyv1.Require, input protoreflect.MessageType) error {
	if err := m.fillWho(q); err != nil { // The rest narrows it.
		return err
	}
	return errors.Join(m.fillOwner(q), m.fillTenant(q), m.fillConditions(q, input))
}

func (m *Method) fillWho(q *policyv1.Require) error {
	stated := 0
	for _, on := range []bool{q.GetPublic(), q.GetAuthenticated(), len(q.GetScopes())+len(q.GetAnyScopes()) > 0} {
		if on {
			stated++
		}
	}
	if stated != 1 {
		return errors.New("require needs exactly one of public, authenticated, scopes (scopes, any_scopes or both)")
	}
	rule := &m.Rule
	rule.Public, rule.Authenticated, rule.Scopes, rule.AnyScopes = q.GetPublic(), q.GetAuthenticated(), q.GetScopes(), q.GetAnyScopes()
	seen := map[string]bool{}
	for _, s := range slices.Concat(rule.Scopes, rule.AnyScopes) {
		if s == "" || strings.ContainsAny(s, " \t\"\\") {
			return errors.New("a scope is a word without spaces and quotes (RFC 6749)")
		}
		if seen[s] { // One of any_scopes that scopes needs anyway would let everybody in.
			return fmt.Errorf("scope %s is named twice in scopes and any_scopes", s)
		}
		seen[s] = true
	}
	return nil
}

func (m *Method) fillOwner(q *policyv1.Require) error {
	rule := &m.Rule
	rule.OwnerByService = q.GetOwnerCheckedByService()
	if rule.Public && (q.GetOwner() != "" || rule.OwnerByService) {
		return errors.New("a public method has no owner")
	}
	if q.GetOwner() == "" {
		return nil
	}
	if rule.OwnerByService {
		return errors.New("owner and owner_checked_by_service exclude each other")
	}
	if m.Descriptor.IsStreamingClient() {
		return errors.New("owner: a client stream has many messages, and so no one owner")
	}
	var err error
	if rule.Owner, err = CompileFieldPath(m.Descriptor.Input(), q.GetOwner()); err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	return nil
}

func (m *Method) fillTenant(q *policyv1.Require) error {
	if q.GetTenant() == "" {
		return nil
	}
	if q.GetPublic() {
		return errors.New("tenant: the callers of a public method need not have one")
	}
	if m.Descriptor.IsStreamingClient() {
		return errors.New("tenant: a client stream has many messages, and so no one tenant")
	}
	var err error
	if m.Rule.Tenant, err = CompileFieldPath(m.Descriptor.Input(), q.GetTenant()); err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	return nil
}

func (m *Method) fillConditions(q *policyv1.Require, input protoreflect.MessageType) error {
	if len(q.GetConditions()) == 0 {
		return nil
	}
	if m.Descriptor.IsStreamingClient() {
		return errors.New("conditions: a client stream has many messages, and so no one request")
	}
	return m.conditions(input, q.GetConditions())
}

// conditions compiles them over a request of the type input.
func (m *Method) conditions(input protoreflect.MessageType, from []*policyv1.Condition) error {
	var errs []error
	ids := map[string]bool{}
	for _, c := range from {
		if ids[c.GetId()] {
			errs = append(errs, fmt.Errorf("conditions: two have the id %q", c.GetId()))
			continue
		}
		ids[c.GetId()] = true
		p, err := condition.Compile(input, c.GetId(), c.GetExpression())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		m.Rule.Conditions = append(m.Rule.Conditions, p)
	}
	return errors.Join(errs...)
}

// Who says in words who may call: scopes that are needed all with spaces
// between them, alternatives with bars, such as `test.write test.read|test.audit`.
func (r *Rule) Who() string {
	switch {
	case r.Public:
		return "public"
	case r.Authenticated:
		return "authenticated"
	}
	words := slices.Clone(r.Scopes)
	if len(r.AnyScopes) > 0 {
		words = append(words, strings.Join(r.AnyScopes, "|"))
	}
	return strings.Join(words, " ")
}

// OwnerText says in words how ownership is decided; empty means it is not.
func (r *Rule) OwnerText() string {
	switch {
	case r.Owner != nil:
		return r.Owner.String()
	case r.OwnerByService:
		return "decided by the service"
	}
	return ""
}

// TenantText is the path of the field that names the tenant; empty means that
// none does.
func (r *Rule) TenantText() string {
	if r.Tenant == nil {
		return ""
	}
	return r.Tenant.String()
}

// ConditionsText names the conditions, separated by spaces.
func (r *Rule) ConditionsText() string {
	ids := make([]string, len(r.Conditions))
	for i, c := range r.Conditions {
		ids[i] = c.ID()
	}
	return strings.Join(ids, " ")
}
