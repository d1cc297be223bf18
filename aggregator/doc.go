// Package aggregator implements shop.bff.v1.BffService: answers composed of
// several services' answers, fetched concurrently and bounded in time.
//
// A composite is an ordinary service whose backend happens to be this process.
// It is served by the gateway's in-process connection and calls its branches, as
// bytes, through the Branches it is given, with its caller's context passed on. It
// is those that authorize every branch for that caller, so a composite can never
// read what its caller could not; this package holds no rules, no credentials and
// no addresses. Of the gateway it knows gateway/policy, whose contexts say which
// branches are optional; gateway/upstream fulfils Branches, and is unknown here.
//
// One file a composite (overview.go, orderdetails.go) says what is fetched and
// what is merged. fanout.go is what they share: what a failing, late or
// panicking branch means for the whole answer.
//
// # Absent parts
//
// An answer misses an optional part for one of two reasons, and says which. A
// part that could not be had (its service down, late, refusing) is named in
// `partial`. A part that does not exist (a user who never wrote a profile, the
// deleted user of an old order) is a normal state of the data: it is absent and
// not named, or every client would show a warning for it. What the caller may
// not see (PERMISSION_DENIED, UNAUTHENTICATED) counts as the former, with
// `retryable` false.
package aggregator
