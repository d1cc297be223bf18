// Package condition compiles and evaluates the conditions of rules: CEL
// expressions (https://cel.dev, cel.dev/cel-go) of type bool over `request`, the
// request message of an RPC, and `principal`, its caller
// (sluice.policy.v1.Caller). gateway/policy compiles them at start and asks them
// in its RequireConditions.
//
// The language is CEL's standard library without `dyn`, which would switch the
// type checker off, and without the extension libraries, some of which make
// large values out of small ones at no cost that the limit would see. Patterns of
// `matches` are literals: a pattern is a program, and not the caller's to write.
//
// What a caller can make an evaluation cost is bounded by CEL's cost, which
// counts steps, and where an expression loops, by time. Both look only between
// calls, so what one call costs is bounded, too: patterns are held against short
// texts, and the inside of a google.protobuf.Any cannot be named. All other calls
// take time in proportion to the request.
package condition
