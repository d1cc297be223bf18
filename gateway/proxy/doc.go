// Package proxy passes requests on to services that speak plain HTTP. It finds the
// route of a request, builds anew what says who calls and from where, picks a backend,
// tries again where that is allowed, and passes bodies and WebSockets through as they
// come. net/http/httputil.ReverseProxy does the passing.
//
// Its neighbours: gateway/rest asks it for routes and runs the chains before it does
// anything (rest.HTTPRoutes; the root adapts the two, which do not know each other);
// gateway/balance, gateway/discovery and gateway/resilience are the same as those of
// RPCs; gateway/headers has the rules of headers. docs/http.md says what an operator
// can rely on, docs/decisions/0024-plain-http.md why.
package proxy
