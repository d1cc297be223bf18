// Package balance picks one of the backends of a service for a call: in turn, by
// weight, or the one with less to do. It leaves out what cannot be reached, what says
// that it does not serve and what fails (resilience.Outlier), lets new backends begin
// slowly, and leaves nobody out when there would be nobody left.
//
// It knows no transport: gateway/upstream puts gRPC's connections into a Group,
// gateway/proxy the addresses of plain HTTP. Where backends are is gateway/discovery's
// to say. What it does and why: docs/balancing.md.
package balance
