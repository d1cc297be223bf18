package headers

import (
	"slices"
	"strings"
)

// always are the headers of a connection and of a message's framing (RFC 9110 7.6.1
// and 8.6, RFC 9113 8.2.2), and those that say who calls and which call it is.
var always = names(`connection keep-alive proxy-connection proxy-authenticate proxy-authorization
	te trailer transfer-encoding upgrade http2-settings host content-type content-length content-encoding
	authorization x-request-id x-user-id traceparent tracestate`)

// ofRequests are where a request comes from: the gateway says it; and what net/http
// would act on.
var ofRequests = names(`forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port
	x-real-ip expect`)

// ofResponses are what the edges say of an answer.
var ofResponses = names(`www-authenticate allow retry-after age date accept-ranges content-range`)

// ofRPCs are what the gateway makes of the answer of an RPC, where nothing could be
// taken away: a rule would put a second one beside it.
var ofRPCs = names(`cache-control etag vary location ratelimit ratelimit-policy content-security-policy
	referrer-policy x-content-type-options x-frame-options strict-transport-security`)

// prefixes of names that are gRPC's, or the gateway's.
var prefixes = []string{"grpc-", "x-sluice-", "sec-websocket-"}

// secret request headers are no values of templates: they would pass on what proves
// who calls, which services are told by the assertion.
var secret = names(`authorization proxy-authorization cookie x-api-key x-sluice-assertion`)

func names(list string) map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields(list) {
		m[n] = true
	}
	return m
}

func reserved(lower string, s Scope) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(lower, p) {
			return true
		}
	}
	switch {
	case always[lower], s.GRPC && lower == "user-agent":
		return true
	case s.Response:
		return ofResponses[lower] || s.GRPC && ofRPCs[lower] || strings.HasPrefix(lower, "access-control-")
	}
	return ofRequests[lower]
}

// ofIdentity are names by which proxies, platforms and frameworks tell services who
// calls or from where, or make another request of it. The prefixes hold for all that
// begins so.
var (
	ofIdentity = names(`proxy x-client-ip client-ip true-client-ip cf-connecting-ip fastly-client-ip x-cluster-client-ip
		remote-user x-remote-user x-webauth-user x-subject x-sub x-tenant x-tenant-id x-role x-roles x-group x-groups x-scope x-scopes
		x-principal x-account x-account-id x-client-id x-consumer-id x-email x-identity x-impersonate-user impersonate-user
		x-access-token x-id-token x-token x-session x-session-id dpop
		x-original-url x-original-uri x-original-host x-rewrite-url x-host x-http-method x-http-method-override x-method-override`)
	ofIdentityPrefixes = []string{"x-forwarded", "x-user", "x-auth", "x-remote-", "x-original-forwarded", "x-envoy-", "x-jwt", "x-client-cert",
		"x-ssl-", "ssl-", "x-amzn-oidc-", "x-goog-authenticated-", "x-goog-iap-", "x-ms-client-principal", "x-ms-token-", "cf-access-", "x-consumer-", "x-credential-",
		"x-principal-", "proxy-", "impersonate-"}
)

// identifies says whether a request header could tell a service who calls. Names with
// an underscore are those with a hyphen to CGI and its heirs.
func identifies(lower string) bool {
	lower = strings.NewReplacer("_", "-", ".", "-").Replace(lower)
	if secret[lower] || ofIdentity[lower] || reserved(lower, Scope{}) {
		return true
	}
	return slices.ContainsFunc(ofIdentityPrefixes, func(p string) bool { return strings.HasPrefix(lower, p) })
}

// steers says whether a response header is about the message's bytes, or about caches,
// connections and proxies on the way: the gateway's answer is not the service's there.
func steers(lower string) bool {
	switch lower {
	case "alt-svc", "expires", "pragma", "age", "server", "via", "last-modified", "clear-site-data", "upgrade-insecure-requests", "x-accel-redirect", "x-sendfile":
		return true
	}
	return strings.HasPrefix(lower, "content-") || strings.HasPrefix(lower, "proxy-") || strings.HasPrefix(lower, "x-accel-")
}
