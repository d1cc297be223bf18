// Package rpc is the gRPC edge: it offers the same methods as the REST edge,
// under the same rules, and forwards their messages without parsing them.
//
// The path of a call: observe.go (request id, telemetry, panics, the checks of
// every call) -> guard.go (the policy chain, before any message is read) ->
// forward.go (bytes in, bytes out) -> gateway/upstream, and back through
// answer.go (headers, errors). patience.go ends calls that hold up. table.go has
// the methods of a snapshot: a service needs no code here, and may come and go.
package rpc
