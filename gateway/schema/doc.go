// Package schema says what is served. It reads service descriptors into a [Catalogue]:
// services, their methods with the compiled rule ([policy.Method]), HTTP bindings, the
// plans of their messages (gateway/transcode) and the types that a message may hold.
//
// It is the only reader of google.api.http and of the options of sluice.policy.v1, so
// that routes, rules, documents and the gRPC edge cannot read them differently. Its
// neighbours are gateway/policy, which compiles a rule, and gateway/route, which reads a
// path template. The edges, gateway/upstream and tools/openapi take the catalogue.
//
// A Catalogue belongs to a snapshot of the configuration. Nothing that reads one may
// assume that there are generated Go types for its messages, or compare descriptors by
// identity: types are the same when they have the same full name.
package schema
