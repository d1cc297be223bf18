package auth

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// AuthenticatorOptions make an Authenticator. At least one of Tokens, Keys and
// Certificates is needed.
type AuthenticatorOptions struct {
	// Tokens verifies bearer tokens; nil means that none is accepted.
	Tokens *Verifier
	// Keys verifies API keys; nil means that their header is not looked at.
	Keys *APIKeys
	// Certificates knows client certificates; nil means that they stand for
	// nobody.
	Certificates *ClientCertificates
	// Trusts says whether a client certificate that was verified by one of the chains
	// when its connection began would be now; nil means that it always would.
	Trusts func(e policy.Edge, chains [][]*x509.Certificate) bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Authenticator says who calls, by whatever credentials the call shows. It is
// safe for concurrent use.
type Authenticator struct {
	o      AuthenticatorOptions
	merged *otter.Cache[together, *policy.Principal]
}

// together are the principals of the credentials of one call; nil is that none
// of its kind was sent. They are shared between calls, so that their addresses
// stand for them; holding them keeps the addresses from being another's.
type together struct{ token, key, certificate *policy.Principal }

// The most combinations that are remembered.
const maxMerged = 4096

// NewAuthenticator returns an authenticator of the credentials that o names.
func NewAuthenticator(o AuthenticatorOptions) (*Authenticator, error) {
	if o.Tokens == nil && o.Keys == nil && o.Certificates == nil {
		return nil, errors.New("no tokens, API keys or client certificates to tell callers by")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	merged, err := otter.New(&otter.Options[together, *policy.Principal]{MaximumSize: maxMerged})
	if err != nil {
		return nil, fmt.Errorf("cache of principals: %w", err)
	}
	return &Authenticator{o: o, merged: merged}, nil
}

// Authenticate is the policy.Check that sets c.Principal. Every credential that
// is sent is verified, also where the rule is public, and one that is no good is
// refused even beside another that is: a client would not learn otherwise that
// its token has expired. Credentials that name different subjects or tenants are
// refused, for which of them was meant nobody can say. Of those that agree the
// first speaks, in the order bearer token, API key, client certificate; a key
// that was shown is counted even then, and the first limit class there is
// stands. Without a credential the call is Anonymous's.
func (a *Authenticator) Authenticate(ctx context.Context, c *policy.Call) (context.Context, error) {
	c.Principal = policy.Anonymous
	s := shown{edge: c.Edge, authorization: c.Headers(authorization.On(c.Edge)), certificate: c.PeerCertificate, chains: c.PeerChains}
	if a.o.Keys != nil {
		s.apiKey = a.o.Keys.values(c)
	}
	p, why, err := a.principal(ctx, &s)
	if err != nil {
		c.Why = why
		return ctx, err
	}
	if p != nil {
		c.Principal = p
		c.Shown = policy.Shown{Authorization: s.authorization, APIKey: s.apiKey, Principal: p}
	}
	return ctx, nil
}

// shown is what a call shows of itself. Again says that the call was let in already, and
// is not counted another time.
type shown struct {
	edge                  policy.Edge
	authorization, apiKey []string
	certificate           *x509.Certificate
	chains                [][]*x509.Certificate
	again                 bool
}

// principal returns for whom the credentials stand, nil where there are none. Why is for
// the operator, beside an error.
func (a *Authenticator) principal(ctx context.Context, s *shown) (p *policy.Principal, why string, err error) {
	token, why, err := a.token(ctx, s)
	if err != nil {
		return nil, why, err
	}
	key, why, err := a.key(s)
	if err != nil {
		return nil, why, err
	}
	cert, err := a.certificate(s)
	if err != nil {
		return nil, "", err
	}
	who, why, err := agree(agreed{"token", token}, agreed{"API key", key}, agreed{"client certificate", cert})
	if err != nil || who == nil {
		return nil, why, err
	}
	return a.merge(who, together{token, key, cert}), "", nil
}

func (a *Authenticator) token(ctx context.Context, s *shown) (p *policy.Principal, why string, err error) {
	if a.o.Tokens != nil {
		return a.o.Tokens.fromHeader(ctx, s.authorization)
	}
	if len(s.authorization) > 0 {
		return nil, "", refuse(reasonInvalid, "the token is not valid: tokens are not accepted here")
	}
	return nil, "", nil
}

func (a *Authenticator) key(s *shown) (p *policy.Principal, why string, err error) {
	switch {
	case len(s.apiKey) == 0:
		return nil, "", nil
	case len(s.apiKey) > 1:
		return nil, "several API keys", refuse(reasonKeyInvalid, "the API key is not valid: send one")
	case a.o.Keys == nil: // A configuration before this one had some.
		return nil, "there are no API keys any more", refuse(reasonKeyInvalid, "the API key is not valid")
	case !s.again:
		return a.o.Keys.Verify(s.apiKey[0])
	}
	stored, why, err := a.o.Keys.find(s.apiKey[0])
	if err != nil {
		return nil, why, err
	}
	return stored.principal, "", nil
}

// certificate is looked at with each call, for its connection may be older than what is
// known of it now.
func (a *Authenticator) certificate(s *shown) (*policy.Principal, error) {
	if s.certificate == nil {
		return nil, nil
	}
	if a.o.Trusts != nil && !a.o.Trusts(s.edge, s.chains) {
		return nil, refuse(reasonUntrusted, "the authority of the client certificate is not trusted any more")
	}
	if a.o.Certificates == nil {
		return nil, nil
	}
	p, ok := a.o.Certificates.Principal(s.certificate)
	if !ok {
		return nil, nil
	}
	if !a.o.Now().Before(p.Expires) {
		return nil, refuse(reasonCertExpired, "the client certificate has expired")
	}
	return p, nil
}

// agreed is what one kind of credential says; nil is that none was sent.
type agreed struct {
	kind string
	who  *policy.Principal
}

// agree returns the first principal that there is, if all are of one subject and
// tenant.
func agree(said ...agreed) (who *policy.Principal, why string, err error) {
	var first agreed
	for _, s := range said {
		switch {
		case s.who == nil:
		case first.who == nil:
			first = s
		case s.who.Subject != first.who.Subject || s.who.Tenant != first.who.Tenant:
			why := fmt.Sprintf("the %s names %q of tenant %q, the %s %q of tenant %q",
				first.kind, first.who.Subject, first.who.Tenant, s.kind, s.who.Subject, s.who.Tenant)
			return nil, why, refuse(reasonConflict, "the credentials name different callers: send one of them")
		}
	}
	return first.who, "", nil
}

// merge lets first speak and keeps what the others say about limits: the key's
// id, and a class. Otherwise who adds a token to a key would leave the class that
// was given to the key. The principal lasts as long as all of them.
func (a *Authenticator) merge(first *policy.Principal, t together) *policy.Principal {
	if t == (together{token: first}) || t == (together{key: first}) || t == (together{certificate: first}) {
		return first
	}
	if p, ok := a.merged.GetIfPresent(t); ok {
		return p
	}
	p := policy.NewPrincipal(first.Subject, first.Issuer, first.Scopes(), first.Expires)
	p.Tenant = first.Tenant
	for _, of := range []*policy.Principal{t.token, t.key, t.certificate} {
		if of == nil {
			continue
		}
		p.APIKey, p.LimitClass = cmp.Or(p.APIKey, of.APIKey), cmp.Or(p.LimitClass, of.LimitClass)
		if !of.Expires.IsZero() && (p.Expires.IsZero() || of.Expires.Before(p.Expires)) {
			p.Expires = of.Expires
		}
	}
	a.merged.Set(t, p)
	return p
}
