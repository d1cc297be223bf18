// Package discovery finds where the backends of a service are: in a static list, in
// DNS, in etcd or in Consul's catalogue. It tells whoever watches every complete set,
// and knows no transport: gateway/upstream (gRPC) and gateway/proxy (plain HTTP) both
// watch it, and gateway/balance spreads calls over what it says.
//
// A source that is away changes nothing: the set that is known stays. What an empty
// answer means differs by source, see docs/balancing.md.
package discovery
