// Package rest is the HTTP edge: JSON in, gRPC out.
//
// The path of a request, each file entered once: server.go (ServeHTTP, the
// table of contents) -> headers.go and cors.go (what every answer has) ->
// guard.go (the arrival checks) -> target.go (how much there is, and where it
// goes) -> route (normalize, match) -> guard.go (the edge checks) -> body.go,
// gunzip.go, depth.go and query.go (what the request carries) -> the generated
// grpc-gateway handler, which reads JSON through decode.go -> conn.go ->
// gateway/upstream; and back through respond.go and unparsed.go as JSON, or
// through problem.go as problem+json (RFC 9457).
//
// JSON is written from an answer's bytes and read into a request's by the plans
// of gateway/transcode, which a binding compiles at the start.
//
// The generated handlers are captured when they register and mounted on our
// own index (capture.go): their mux is never asked to route.
package rest
