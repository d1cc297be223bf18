// Package limit decides how often who may call.
//
// A [Limiter] holds the limit classes of the configuration and offers them to
// the chain as checks of gateway/policy: [Limiter.Arrival] (addresses, before a
// credential is looked at), [Limiter.Rates] (rates and quotas of the rule's
// class) and [Limiter.InFlight] (calls at once). Where budgets are kept is a
// [Store]: [Memory] for rates in this process, [NewLocal] with a quota store
// beside it, or gateway/limit/redis for several gateways. Quotas of one gateway
// are kept by gateway/limit/ledger.
//
// The package knows no transport: no net/http, no gRPC metadata.
package limit
