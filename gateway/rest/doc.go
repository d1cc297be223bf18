// Package rest is JSON over HTTP by google.api.http: JSON in, gRPC out. It is a protocol of
// gateway/httpedge, which has everything about a request that is not this.
//
// The path of a request, each file entered once: server.go (Serve, the table of contents)
// -> route (match) -> body.go, depth.go and query.go (what the request carries) -> the
// generated grpc-gateway handler, which reads JSON through decode.go -> conn.go ->
// gateway/upstream; and back through respond.go and unparsed.go as JSON, or through
// httpedge as problem+json (RFC 9457).
//
// JSON is written from an answer's bytes and read into a request's by the plans
// of gateway/transcode, which a binding compiles at the start.
//
// The generated handlers are captured when they register and mounted on our
// own index (capture.go): their mux is never asked to route.
package rest
