package httpedge

import (
	"net/http"
	"strings"
)

// WebSocket says whether the caller asks for a WebSocket.
func (x *Exchange) WebSocket() bool { return x.webSocket }

// CrossOriginWebSocket refuses a WebSocket that a page of another origin may not open.
func (x *Exchange) CrossOriginWebSocket() error {
	if x.originMay() {
		return nil
	}
	return Refuse(limitCrossOrigin, crossOriginRefused())
}

// originMay says whether a page may open a WebSocket: browsers ask nobody before,
// and let any page read it. Where pages of other origins may call is CORS's to say,
// and whether with cookies and client certificates: those a browser sends here
// unasked. Programs send no Origin.
func (x *Exchange) originMay() bool {
	c := x.server.cors
	origin := x.Request.Header["Origin"]
	switch len(origin) {
	case 0:
		return true
	case 1:
	default:
		return false
	}
	if _, host, ok := strings.Cut(origin[0], "://"); ok && strings.EqualFold(host, x.Request.Host) {
		return true
	}
	if c == nil || (x.Call.PeerCertificate != nil || len(x.Request.Header["Cookie"]) > 0) && !c.credentials {
		return false
	}
	return c.origins.any && origin[0] != "null" || c.origins.allow(origin[0])
}

// asksForWebSocket reads what dropHopByHop will take away (RFC 6455, 4.1). Of other
// protocols, h2c too, nothing is kept.
func asksForWebSocket(r *http.Request) bool {
	if r.ProtoMajor != 1 || r.Method != http.MethodGet || len(r.Header["Upgrade"]) != 1 || !strings.EqualFold(r.Header["Upgrade"][0], "websocket") {
		return false
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return false // Whose end is where would be in doubt.
	}
	for _, line := range r.Header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.Trim(name, " \t"), "upgrade") {
				return true
			}
		}
	}
	return false
}
