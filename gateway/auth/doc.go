// Package auth says who calls, and tells services so.
//
// A [Verifier] turns the bearer token of a call into a policy.Principal: its
// Authenticate method is a policy.Check for both edges. A [Signer] makes the
// short-lived assertions by which the gateway names that principal to services
// (gateway/upstream sends them). A [DevKey] stands in for an issuer where there
// is none yet.
//
// Keys come from files here, and over HTTP from gateway/auth/jwks. This package
// itself knows no transport: no net/http, no gRPC metadata.
//
// All configured issuers share one name space of subjects and scopes: each is
// trusted to name any subject and to grant any scope, admin included.
package auth
