package httpedge

import (
	"net/http"
	"slices"
)

// limitCrossOrigin names what CrossSite refuses.
const limitCrossOrigin = "cross_origin"

// ambientHeaders are those that a page can send without a preflight, or that
// browsers send by themselves (the Fetch standard, CORS-safelisted and forbidden
// request headers): a key in one of them does not show that a program meant it.
var ambientHeaders = []string{"Accept", "Accept-Language", "Content-Language", "Content-Type", "Cookie", "Host", "Origin", "Range", "Referer", "User-Agent"}

// keyHeaders are the headers of credentials that no page of another origin can
// send before a preflight has asked us.
func keyHeaders(apiKey string) []string {
	headers := []string{"Authorization"}
	if apiKey = http.CanonicalHeaderKey(apiKey); apiKey != "" && !slices.Contains(ambientHeaders, apiKey) {
		headers = append(headers, apiKey)
	}
	return headers
}

// CrossSite refuses what a page of another origin makes a browser do in its
// user's name. A browser sends a client certificate with every request to us,
// whoever's page asks for it, as it does cookies, and a form or a fetch without
// a type of its own needs no preflight. What is meant to change something must
// come from our own origin, from one that may send credentials, or from no
// browser at all (http.CrossOriginProtection; Sec-Fetch-Site, then Origin).
func (x *Exchange) CrossSite() error {
	s := x.server
	if x.Call.PeerCertificate == nil || slices.ContainsFunc(s.keys, func(h string) bool { return len(x.Request.Header[h]) > 0 }) {
		return nil
	}
	if s.sameOrigin.Check(x.Request) == nil && len(x.Request.Header["Origin"]) < 2 && len(x.Request.Header["Sec-Fetch-Site"]) < 2 || s.cors.trusts(x.Request) {
		return nil
	}
	return Refuse(limitCrossOrigin, crossOriginRefused())
}

// trusts says whether a request is of an origin that may send credentials.
func (c *crossOrigin) trusts(r *http.Request) bool {
	origin := r.Header["Origin"]
	return c != nil && c.credentials && len(origin) == 1 && c.origins.allow(origin[0])
}
