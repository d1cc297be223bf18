package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard keeps the pages of other sites out that an operator's browser shows.
// They reach a listener on loopback from inside, and read it where their name
// suddenly resolves to 127.0.0.1 (DNS rebinding): the name in Host is theirs
// then, so on loopback only names of loopback are served. On other addresses any
// name is, for probes and scrapers use addresses and names that we do not know.
// What a browser says to come from another site (Fetch Metadata) is refused
// everywhere. No browser sends a request without a Host, and checks of load
// balancers in HTTP/1.0 do (RFC 9112, 3.2): health and readiness answer them.
func guard(addr string, next http.Handler) http.Handler {
	local := Loopback(addr)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case local && !loopback(hostOf(r.Host)) && (r.Host != "" || !probed(r.URL.Path)):
			plain(w, http.StatusForbidden, "the admin listener is on loopback, and answers to localhost and loopback addresses alone\n")
		case r.Header.Get("Sec-Fetch-Site") == "cross-site":
			plain(w, http.StatusForbidden, "the admin listener answers no other site\n")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func probed(path string) bool { return path == healthPath || path == readyPath }

// Loopback says whether an address, host:port, is one that only this machine
// reaches: a loopback address or localhost.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && loopback(host)
}

func loopback(host string) bool {
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// hostOf is a Host header without port and brackets.
func hostOf(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
}
