// Package upstream is where every call of the gateway ends: a
// grpc.ClientConnInterface that dispatches by service name to an in-process
// connection or a remote target.
//
// Generated REST handlers, the gRPC forwarder and the composites all call it.
// It refuses calls that were not admitted (gateway/policy), runs the entry
// checks on the message that is about to be sent, bounds the call in time,
// rebuilds the outgoing metadata, and makes errors the same whichever kind of
// connection they came from.
package upstream
