// Package resilience decides what happens to calls of a service that fails or is too
// slow: a circuit breaker for each class of calls, a bound on the calls in flight
// that follows latency, a budget for retries, and which single backends are left out.
//
// It is pure: state and a clock in, a decision out. A call asks Class.Acquire before
// every attempt and tells Permit.Done what came of it; nothing here waits, starts a
// goroutine or knows a transport. gateway/upstream and gateway/proxy adapt it, once
// each; gateway/balance uses Outlier. Names of its metrics: docs/resilience.md.
package resilience
