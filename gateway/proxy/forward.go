package proxy

import (
	"context"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/textproto"
	"net/url"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
)

// Headers that the gateway sends to services.
const (
	headerAssertion = "X-Sluice-Assertion"
	headerRequestID = "X-Request-Id"
	headerUserID    = "X-User-Id"
)

// dropped are the caller's headers that no service gets: credentials, which the
// assertion stands for; what says where a request comes from, which the gateway says;
// and what some frameworks take for another path, method or proxy than the ones that
// the rule was about.
var dropped = names("Authorization", "Proxy-Authorization", "Proxy", "Expect", "Trailer", headerRequestID, headerUserID,
	"Forwarded", "X-Forwarded", "X-Real-Ip", "X-Client-Ip", "Client-Ip", "Fastly-Client-Ip", "X-Envoy-External-Address",
	"Remote-User", "X-Remote-User", "X-Auth-Request-User", "X-Auth-Request-Email", "X-Authenticated-User", "X-Authenticated-Userid", "True-Client-Ip", "Cf-Connecting-Ip", "X-Cluster-Client-Ip", "X-Original-Forwarded-For",
	"X-Original-Url", "X-Rewrite-Url", "X-Original-Host", "X-Host", "X-Original-Uri",
	"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "Traceparent", "Tracestate", "Http2-Settings")

// droppedPrefixes are of headers that say who calls, or from where.
var droppedPrefixes = []string{"X-Sluice-", "X-Forwarded-"}

func names(all ...string) map[string]bool {
	m := make(map[string]bool, len(all))
	for _, n := range all {
		m[textproto.CanonicalMIMEHeaderKey(n)] = true
	}
	return m
}

// clean takes away what a service must not believe. Names with an underscore are
// those with a hyphen to CGI and its heirs.
func clean(h http.Header, apiKey string) {
	for name := range h {
		if dropped[name] || strings.IndexByte(name, '_') >= 0 {
			delete(h, name)
			continue
		}
		for _, p := range droppedPrefixes {
			if strings.HasPrefix(name, p) {
				delete(h, name)
				break
			}
		}
	}
	if apiKey != "" {
		h.Del(apiKey)
	}
}

// webSocketNames are spelled as RFC 6455, 4.1, does, where net/http has spellings of its
// own: servers on small devices, and clients, compare them byte by byte.
var webSocketNames = []string{"Sec-WebSocket-Accept", "Sec-WebSocket-Extensions", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol", "Sec-WebSocket-Version"}

// spellWebSocket gives the fields of a handshake their spelling.
func spellWebSocket(h http.Header) {
	for _, name := range webSocketNames {
		key := textproto.CanonicalMIMEHeaderKey(name)
		if values, ok := h[key]; ok {
			delete(h, key)
			h[name] = values
		}
	}
}

var traceContext = propagation.TraceContext{}

// rewriteRequest builds the request to send. Backend and attempt are the round
// tripper's.
func rewriteRequest(pr *httputil.ProxyRequest) {
	q, out := requestOf(pr.In.Context()), pr.Out
	clean(out.Header, q.p.o.APIKeyHeader)
	if len(q.key) > 0 {
		q.keyed(out.Header)
	}
	u := q.route.upstream
	out.URL.Scheme, out.URL.Host = q.target.scheme, u.name
	q.sendTarget(out.URL)
	out.Trailer, out.RequestURI = nil, ""
	if out.Host = q.in.Host; u.host != "" {
		out.Host = u.host
	}
	q.forwarded(out.Header)
	if q.route.out != nil { // A part, or a packed answer, could not be changed.
		out.Header["Accept-Encoding"] = []string{"identity"}
		for _, name := range []string{"Range", "If-Range"} {
			delete(out.Header, name)
		}
	}
	values := q.values()
	values.Call = q.announced()
	q.route.request.Apply(out.Header, values)
	out.Header[headerRequestID] = []string{values.Call.RequestID}
	if p := q.principal(); u.userID && p.Authenticated() {
		out.Header[headerUserID] = []string{p.Subject}
	}
	q.injectTrace(out.Context(), out.Header)
	if out.Header["Upgrade"] != nil {
		spellWebSocket(out.Header)
	}
}

// principal is who the service is told asks: nobody, where others get the answer too.
func (q *Request) principal() *policy.Principal {
	if q.unnamed {
		return policy.Anonymous
	}
	return q.call.Principal
}

// announced is the call as the service learns of it. What templates make of the caller
// is a part of the key; a request id that she has chosen is not, so an answer for others
// is asked for under a new one.
func (q *Request) announced() *policy.Call {
	if !q.unnamed || len(q.in.Header[headerRequestID]) == 0 {
		return q.call
	}
	call := *q.call
	call.RequestID = telemetry.RequestID("")
	return &call
}

// injectTrace says which trace the request belongs to. The trace state is the caller's
// own text, which must not shape an answer for others.
func (q *Request) injectTrace(ctx context.Context, h http.Header) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return
	}
	traceContext.Inject(ctx, propagation.HeaderCarrier(h))
	if q.unnamed {
		delete(h, "Tracestate")
	}
}

// sendTarget writes the path and the query byte for byte. An opaque URL is sent as it
// is; Path and RawPath would be encoded anew where they hold what a path should not.
// The reverse proxy has taken parameters that Go cannot parse out of the query.
func (q *Request) sendTarget(u *url.URL) {
	*u = url.URL{Scheme: u.Scheme, Host: u.Host, Opaque: q.sendPath, RawQuery: q.in.URL.RawQuery, ForceQuery: q.in.URL.ForceQuery}
}

// forwarded says where the request comes from, anew: the address that the gateway
// found, and behind it the trusted proxy that stood between, if any. Of a request whose
// answer others get, only the name and the scheme, which the key has.
func (q *Request) forwarded(h http.Header) {
	if q.unnamed {
		h["X-Forwarded-Host"], h["X-Forwarded-Proto"] = []string{q.in.Host}, []string{q.scheme()}
		h["Forwarded"] = []string{`host="` + q.in.Host + `";proto=` + q.scheme()}
		return
	}
	client, peer := q.call.Client, q.call.Peer.Addr().Unmap().WithZone("")
	proto := q.scheme()
	list := client.String()
	forwarded := "for=" + node(client) + `;host="` + q.in.Host + `";proto=`
	if client != peer {
		list += ", " + peer.String()
		forwarded += proto + ", for=" + node(peer)
	} else {
		forwarded += proto
	}
	h["X-Forwarded-For"] = []string{list}
	h["X-Forwarded-Host"] = []string{q.in.Host}
	h["X-Forwarded-Proto"] = []string{proto}
	h["Forwarded"] = []string{forwarded}
}

// scheme is the one that the caller used. Only a trusted proxy makes client and peer
// differ: so its word counts then.
func (q *Request) scheme() string {
	if vs := q.in.Header["X-Forwarded-Proto"]; len(vs) == 1 && (vs[0] == "http" || vs[0] == "https") && q.call.Client != q.call.Peer.Addr().Unmap().WithZone("") {
		return vs[0]
	}
	if q.in.TLS != nil {
		return "https"
	}
	return "http"
}

// node is an address as RFC 7239 writes it.
func node(a netip.Addr) string {
	if a.Is6() {
		return `"[` + a.String() + `]"`
	}
	return a.String()
}

// assert tells the service who calls. It is done for each attempt: an assertion is
// short-lived.
func (q *Request) assert(out *http.Request) error {
	if !q.route.upstream.assert {
		return nil
	}
	token, err := q.p.o.Signer.Sign(q.principal(), q.route.upstream.name)
	if err != nil {
		return err
	}
	out.Header[headerAssertion] = []string{token}
	return nil
}
