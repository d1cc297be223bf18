// Package policy is the gateway's one language for admitting calls.
//
// Both edges (gateway/httpedge, gateway/rpc) turn a request into a [Call] and run
// it through a [Chain] of [Check]s; gateway/upstream runs a second chain on
// the message that is about to be sent. The rules that checks enforce stand
// beside the RPCs in the .proto files (sluice.policy.v1). gateway/schema reads them
// from the descriptors, and [NewMethod] compiles each once, at start, into a [Rule]; CEL
// expressions are compiled by gateway/policy/condition.
//
// The package knows no transport: no net/http, no gRPC metadata.
package policy
