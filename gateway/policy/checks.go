package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// ErrorDomain is the domain of the google.rpc.ErrorInfo details that the
// gateway itself adds.
const ErrorDomain = "sluice"

// RequireScopes is the edge check of who may call: a credential unless the
// rule is public, every one of the rule's scopes, and one of those of which any
// will do.
func RequireScopes(ctx context.Context, c *Call) (context.Context, error) {
	r := &c.Method.Rule
	if r.Public {
		return ctx, nil
	}
	if !c.Principal.Authenticated() {
		return ctx, status.Error(codes.Unauthenticated, "this call needs a credential: send `Authorization: Bearer <token>`")
	}
	for _, s := range r.Scopes {
		if !c.Principal.Has(s) {
			return ctx, denied("the token lacks the scope "+s, "SCOPE_MISSING", map[string]string{"scope": s})
		}
	}
	if len(r.AnyScopes) > 0 && !slices.ContainsFunc(r.AnyScopes, c.Principal.Has) {
		return ctx, denied("the token needs one of the scopes "+strings.Join(r.AnyScopes, ", "), "SCOPE_MISSING",
			map[string]string{"any_scope": strings.Join(r.AnyScopes, " ")})
	}
	return ctx, nil
}

// RequireOwner is the entry check of ownership: the request's owner field is
// read from the very message that is about to be sent.
func RequireOwner(ctx context.Context, c *Call) (context.Context, error) {
	o := c.Method.Rule.Owner
	if o == nil {
		return ctx, nil
	}
	owner, err := o.Of(c.Message)
	if err != nil {
		return ctx, malformed()
	}
	if !c.Principal.Owns(owner) {
		return ctx, denied("the caller may only act on what is its own", "NOT_OWNER", map[string]string{"field": o.String()})
	}
	return ctx, nil
}

// RequireTenant is the entry check of tenancy: the request's tenant field is
// read from the very message that is about to be sent. No scope stands above it.
func RequireTenant(ctx context.Context, c *Call) (context.Context, error) {
	t := c.Method.Rule.Tenant
	if t == nil {
		return ctx, nil
	}
	tenant, err := t.Of(c.Message)
	if err != nil {
		return ctx, malformed()
	}
	if !c.Principal.Belongs(tenant) {
		return ctx, denied("the caller may only act within its own tenant", "NOT_TENANT", map[string]string{"field": t.String()})
	}
	return ctx, nil
}

// RequireConditions is the entry check of what scopes cannot say: every
// condition of the rule must hold for the very message that is about to be sent.
// A caller does not learn which one did not, an operator does.
func RequireConditions(ctx context.Context, c *Call) (context.Context, error) {
	conditions := c.Method.Rule.Conditions
	if len(conditions) == 0 {
		return ctx, nil
	}
	request, err := conditions[0].Parse(c.Message.Wire) // All are about one message.
	if err != nil {
		return ctx, malformed()
	}
	p := c.Principal
	caller := &policyv1.Caller{Subject: p.Subject, Issuer: p.Issuer, Tenant: p.Tenant, Scopes: p.scopes}
	for _, cond := range conditions {
		yes, err := cond.Eval(ctx, request, caller)
		if yes && err == nil {
			continue
		}
		c.Why = fmt.Sprintf("condition %q is false", cond.ID())
		if err != nil {
			c.Why = fmt.Sprintf("condition %q: %v", cond.ID(), err)
		}
		return ctx, denied("this call is not allowed", "CONDITION_FAILED", nil)
	}
	return ctx, nil
}

func malformed() error {
	return status.Error(codes.InvalidArgument, "the request is not a valid message")
}

func denied(msg, reason string, meta map[string]string) error {
	st, err := status.New(codes.PermissionDenied, msg).WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: ErrorDomain, Metadata: meta})
	if err != nil { // Only an invalid code can fail here.
		return status.Error(codes.PermissionDenied, msg)
	}
	return st.Err()
}
