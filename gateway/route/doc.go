// Package route reads google.api.http path templates, finds the one that a request path matches, and makes
// the request path fit to be matched. It is pure: no I/O, no handlers, no clock. Its neighbours are
// gateway/httpedge, which normalizes every path, and gateway/rest and gateway/proxy, which each ask an Index of
// their own once a request; the string that Normalize
// returns is also the one that policy reads, so that routing and policy cannot disagree on a path.
//
// # Grammar
//
//	template = "/" [ segment { "/" segment } ] [ ":" verb ]
//	segment  = "*" | "**" | literal | variable
//	variable = "{" field { "." field } [ "=" plain { "/" plain } ] "}"
//	plain    = "*" | "**" | literal
//	field    = [A-Za-z_][A-Za-z0-9_]*
//	literal  = RFC 3986 pchars, one or more
//	verb     = RFC 3986 pchars
//
// "*" takes one path segment, "**" any number and none, and stands at most once in a template. {id} is short
// for {id=*}. A verb is what follows the last colon of the last segment, or the first colon behind a closing
// brace; colons elsewhere are part of a literal. Literals and verbs are compared byte by byte with the
// decoded path, percent signs included.
//
// # What matches
//
// Exactly what matches in grpc-gateway's runtime.ServeMux with its default unescaping mode; the tests hold
// the two against each other, template by template and as routers of the same random routes. In particular:
//
//   - A template with a verb needs the verb, and text in front of its colon: "/v1/:go" has no verb.
//   - A template without a verb takes a colon like any other character: {id} on "1:go" is "1:go".
//   - "*" takes an empty segment too: {id} on "/v1/users/" is "", while "/v1/users" does not match there.
//   - "**" that takes nothing still stands between slashes: {p=a/**} on "/a" is "a/".
//
// A field that is bound twice, which the mux takes, is refused: of two values one would be checked, and the
// other served.
//
// One habit of the mux is left out: it answers 404 for any path that ends in a bare verb ("/x/:go") as soon
// as it meets a pattern with that verb, wherever that pattern leads. Here each template decides for itself.
//
// # Precedence
//
// The mux takes the pattern registered last. Here the order of registration means nothing: of the templates
// that match a path, the most specific wins, and a template that leads nowhere is backed out of.
//
//  1. Template segments are compared from left to right. Where two first differ in kind, a literal goes
//     before "*", and "*" before "**"; a template that ends goes before one that has "**" there.
//  2. Behind a "**" that both have, the template with more segments goes first: it leaves less to "**".
//  3. Where all segments are of the same kind, the longer verb goes first, no verb last.
//
// So "/v1/{id}:go" goes before "/v1/{id}", and "/v1/users/{id}" before "/v1/{a}/{b}:go", even on a path that
// ends in ":go". Two templates that this order cannot part have the same segments and the same verb: Add
// refuses the second.
//
// # Cost
//
// A look-up walks a trie of path segments, one for each HTTP method, and costs what the path is long,
// however many routes there are: the tests count its steps. Where templates overlap it may have to go back,
// but visits no node twice. It does not allocate, but for parameters as Lookup describes.
package route
