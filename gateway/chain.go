package gateway

import (
	"slices"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// The order of the request path, in one place. Around these chains the edges
// themselves do, in this order: request id, telemetry, recovery from panics;
// the arrival chain; bounds on what was sent, the route, CORS and OPTIONS; the
// edge chain; body and query; then gateway/upstream with the entry chain, the
// deadline and the assertion.

// stepAddress refuses at any rate that anyone sends at: the access log has a part
// of it.
const stepAddress = "address"

// arrivalChain runs on every request of both edges, before its route is looked
// for: on what is not there, too.
func arrivalChain(l *limit.Limiter) policy.Chain {
	return policy.Chain{{Name: stepAddress, Check: l.Arrival}} // guessing of credentials and paths costs the guesser
}

// edgeChain runs before any body is read or message looked at, on both edges.
func edgeChain(a *auth.Authenticator, l *limit.Limiter, o *options) policy.Chain {
	return slices.Concat(
		policy.Chain{{Name: stepAuthenticate, Check: a.Authenticate}}, // who is it? everything else asks that
		o.checks[AfterAuthentication],                                 // a team's own, which know the principal
		policy.Chain{{Name: "scopes", Check: policy.RequireScopes}},   // may it call this at all? cheap, so before what counts
		o.checks[AfterAuthorization],                                  // a team's own, for callers who may
		policy.Chain{
			{Name: "in-flight", Check: l.InFlight}, // a call that finds no place costs no tokens
			{Name: "limits", Check: l.Rates},       // last: what is counted is what goes on
		},
	)
}

// branchChain admits a composite's branch, for the branch's own method: the
// principal is known, and the composite has paid the limits. A composite never
// reads what its caller could not.
func branchChain(o *options) policy.Chain {
	return slices.Concat(
		o.checks[AfterAuthentication],                               // a team's own: they hold for every call
		policy.Chain{{Name: "scopes", Check: policy.RequireScopes}}, // of the branch's rule
		o.checks[AfterAuthorization],
	)
}

// entryChain runs in gateway/upstream on the very bytes that will be sent, whichever
// edge or composite they come from.
func entryChain(o *options) policy.Chain {
	return slices.Concat(
		policy.Chain{
			{Name: "owner", Check: policy.RequireOwner},           // whose is it? the message says, not the URL
			{Name: "tenant", Check: policy.RequireTenant},         // no scope reaches into another tenant
			{Name: "conditions", Check: policy.RequireConditions}, // the dearest, so last
		},
		o.checks[AtEntry], // a team's own, which see the message
	)
}
