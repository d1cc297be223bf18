// Package upstream is the one way out for RPCs: bytes in, bytes out. Call (call.go) sends
// a unary call, Stream (stream.go) a streaming one; the call that their context carries
// says to which method, and so where: to a service in this process, or to a remote target.
//
// The edges (gateway/rest, gateway/rpc) call it through Sender, composites (aggregator)
// through Branches; adapter.go gives those that have generated clients a
// grpc.ClientConnInterface, and is the only file here that knows messages by their types.
//
// It refuses calls that were not admitted (gateway/policy), runs the entry checks on the
// very bytes that will be sent, refuses bytes that are no request, answers from the cache
// (gateway/cache), bounds the call in time, makes attempts (gateway/resilience), rebuilds
// the outgoing metadata, and makes errors the same whichever kind of target they came from.
package upstream
