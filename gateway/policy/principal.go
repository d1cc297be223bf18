package policy

import (
	"slices"
	"strings"
	"time"
)

// ScopeAdmin stands for every scope and every owner.
const ScopeAdmin = "admin"

// Principal is a verified caller. It is immutable once made, and shared
// between the calls that present the same credential.
type Principal struct {
	// Subject is the caller's id within its issuer; empty for Anonymous.
	Subject string
	// Issuer says who vouches for the subject.
	Issuer string
	// Tenant is the tenant the caller belongs to; empty means none.
	Tenant string
	// APIKey is the id of the API key that was shown; empty means none was.
	APIKey string
	// LimitClass stands in for the limit classes of the rules; empty means that
	// they hold.
	LimitClass string
	// Expires is when the credential stops being valid; zero means never.
	Expires time.Time

	scopes []string
	scope  string
}

// Anonymous is the caller without a credential.
var Anonymous = NewPrincipal("", "", nil, time.Time{})

// NewPrincipal makes a principal; scopes are sorted and made unique. Who makes
// it may set the other fields before it is shared.
func NewPrincipal(subject, issuer string, scopes []string, expires time.Time) *Principal {
	scopes = slices.Clone(scopes)
	slices.Sort(scopes)
	scopes = slices.Compact(scopes)
	return &Principal{Subject: subject, Issuer: issuer, Expires: expires, scopes: scopes, scope: strings.Join(scopes, " ")}
}

// Authenticated says whether the caller has shown a credential.
func (p *Principal) Authenticated() bool { return p.Subject != "" }

// Scopes returns the scopes, sorted. Not to be changed.
func (p *Principal) Scopes() []string { return p.scopes }

// Scope returns the scopes as one string, space-separated (RFC 8693).
func (p *Principal) Scope() string { return p.scope }

// Has says whether the principal has the scope, or admin.
func (p *Principal) Has(scope string) bool {
	return slices.Contains(p.scopes, scope) || slices.Contains(p.scopes, ScopeAdmin)
}

// Account is whom limits count: the subject within its tenant, so that equal
// subjects of two tenants do not use up each other's budgets. A tenant has no spaces, so
// that the first one ends it; a subject with spaces that is of no tenant has one before it.
func (p *Principal) Account() string {
	if p.Tenant == "" && !strings.Contains(p.Subject, " ") {
		return p.Subject
	}
	return p.Tenant + " " + p.Subject
}

// Belongs says whether the principal is of the tenant. Nobody is of no tenant,
// and no scope stands above tenants: an admin is its own tenant's.
func (p *Principal) Belongs(tenant string) bool { return tenant != "" && p.Tenant == tenant }

// Owns says whether what belongs to owner belongs to the principal: its
// subject is owner, or it has admin. Nobody owns what has no owner, except
// admin.
func (p *Principal) Owns(owner string) bool {
	return (owner != "" && p.Subject == owner) || slices.Contains(p.scopes, ScopeAdmin)
}
