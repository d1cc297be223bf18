package kit

import (
	"context"
	"slices"
)

// scopeAdmin stands for every scope and for every owner.
const scopeAdmin = "admin"

// Caller is who calls, as the gateway asserted it.
type Caller struct {
	// Subject is the user's id; "" is an anonymous caller.
	Subject string
	// Tenant is the tenant the caller belongs to; "" means none.
	Tenant string
	// Scopes are what the caller may do.
	Scopes []string
}

// HasScope reports whether the caller has scope s. Scope "admin" stands for all.
func (c Caller) HasScope(s string) bool {
	return slices.Contains(c.Scopes, s) || slices.Contains(c.Scopes, scopeAdmin)
}

// Owns reports whether the caller may act on what belongs to userID: it is that
// user, or it has scope "admin". An anonymous caller owns nothing, not even what
// belongs to the user "".
func (c Caller) Owns(userID string) bool {
	return c.Subject != "" && c.Subject == userID || c.HasScope(scopeAdmin)
}

// Belongs reports whether the caller is of tenant. Nobody is of the tenant "",
// and scope "admin" is no help: an admin is its own tenant's.
func (c Caller) Belongs(tenant string) bool { return tenant != "" && c.Tenant == tenant }

type callerKey struct{}

// WithCaller returns a context whose caller is c. The interceptors call it after
// they verified the assertion; tests call it to do without one.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns the caller of ctx: the anonymous one where none was set.
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
