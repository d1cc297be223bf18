package policy

import (
	"context"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrorDomain is the domain of the google.rpc.ErrorInfo details that the
// gateway itself adds.
const ErrorDomain = "sluice"

// RequireScopes is the edge check of who may call: a credential unless the
// rule is public, and every scope the rule names.
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
		return ctx, status.Error(codes.InvalidArgument, "the request is not a valid message")
	}
	if !c.Principal.Owns(owner) {
		return ctx, denied("the caller may only act on what is its own", "NOT_OWNER", map[string]string{"field": o.String()})
	}
	return ctx, nil
}

func denied(msg, reason string, meta map[string]string) error {
	st, err := status.New(codes.PermissionDenied, msg).WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: ErrorDomain, Metadata: meta})
	if err != nil { // Only an invalid code can fail here.
		return status.Error(codes.PermissionDenied, msg)
	}
	return st.Err()
}
