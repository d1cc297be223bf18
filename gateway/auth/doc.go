// Package auth says who calls, and tells services so.
//
// An [Authenticator] turns the credentials of a call into a policy.Principal:
// its Authenticate method is a policy.Check for both edges. It asks a [Verifier]
// about bearer tokens, [APIKeys] about the keys of programs and
// [ClientCertificates] about certificates that the TLS listener has verified. A
// [Signer] makes the short-lived assertions by which the gateway names that
// principal to services (gateway/upstream sends them), and a [KeyRotation]
// replaces its key while all runs. A [DevKey] stands in for an issuer where
// there is none yet.
//
// Keys come from files here, and over HTTP from gateway/auth/jwks. This package
// itself knows no transport: no net/http, no gRPC metadata.
//
// All configured issuers, API keys and certificate rules share one name space of
// subjects and scopes: each is trusted to name any subject and to grant any
// scope, admin included. Only an issuer's subject prefix narrows that.
package auth
