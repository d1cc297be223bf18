package gateway

import (
	"slices"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// The order of the request path, in one place. Around these chains the edges
// themselves do, in this order: request id, telemetry, recovery from panics,
// the route, OPTIONS; then the edge chain; then body and query; then
// gateway/upstream with the entry chain, the deadline and the assertion.

// edgeChain runs before any body is read or message looked at, on both edges.
func edgeChain(v *auth.Verifier, o *options) policy.Chain {
	return slices.Concat(
		policy.Chain{{Name: "authenticate", Check: v.Authenticate}}, // who is it? everything else asks that
		o.checks[AfterAuthentication],                               // a team's own, which know the principal
		policy.Chain{{Name: "scopes", Check: policy.RequireScopes}}, // may it call this at all? cheap, so before what counts
		o.checks[AfterAuthorization],                                // a team's own, for callers who may
	)
}

// branchChain admits a composite's branch, for the branch's own method: the
// principal is known, and the composite has paid the limits.
func branchChain(*options) policy.Chain {
	return policy.Chain{{Name: "scopes", Check: policy.RequireScopes}} // a composite never reads what its caller could not
}

// entryChain runs in gateway/upstream on the very message that will be sent,
// typed or as bytes, whichever edge or composite it comes from.
func entryChain(o *options) policy.Chain {
	return slices.Concat(
		policy.Chain{{Name: "owner", Check: policy.RequireOwner}}, // whose is it? the message says, not the URL
		o.checks[AtEntry], // a team's own, which see the message
	)
}
