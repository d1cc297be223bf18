// Package rpc is the gRPC edge: it offers the same methods as the REST edge,
// under the same rules, and forwards their messages without parsing them.
//
// The path of a call: server.go (observe, recover) -> guard.go (the policy
// chain, before any message is looked at) -> forward.go (bytes in, bytes out)
// -> gateway/upstream. The services are described to grpc-go from descriptors,
// so a service needs no code here.
package rpc
