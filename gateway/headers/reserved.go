package headers

import "strings"

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
