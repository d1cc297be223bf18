// Package proxy passes requests on to services that speak plain HTTP. It finds the
// route of a request, builds anew what says who calls and from where, picks a backend,
// tries again where that is allowed, and passes bodies and WebSockets through as they
// come. net/http/httputil.ReverseProxy does the passing.
//
// Its neighbours: it is a protocol of gateway/httpedge, which has let the request in and
// bounds its body (serve.go, the table of contents); gateway/route reads paths and finds
// templates (index.go);
// gateway/balance, gateway/discovery and gateway/resilience are the same as those of
// RPCs; gateway/headers has the rules of headers. docs/http.md says what an operator
// can rely on, docs/decisions/0024-plain-http.md why.
package proxy
