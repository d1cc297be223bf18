// Package httpedge is what every protocol over HTTP shares: how a request arrives, is
// looked at, let in, bounded, observed and refused. The protocols stand on it, beside each
// other: gateway/rest serves google.api.http, gateway/proxy plain HTTP, Mounts pages.
//
// The path of a request: server.go (ServeHTTP, the table of contents) -> headers.go and
// cors.go (what every answer has) -> guard.go (the arrival checks) -> target.go (how much
// there is, and where it goes) -> protocol.go: the protocols are asked in their order whose
// it is. The one whose it is calls back: crosssite.go, guard.go (Admit, Timeout), body.go
// and gunzip.go for a body that is read whole, stream.go for one that is read while the call
// runs, passbody.go for one that is passed on; and exchange.go and cork.go write what it
// answers, problem.go its failures as problem+json (RFC 9457). departure.go notices who
// leaves.
//
// Its neighbours: gateway/policy has the chains, gateway/telemetry observes, gateway/route
// normalizes paths, gateway/listen has the connections. It knows no protocol, and nothing of
// where a call goes.
package httpedge
