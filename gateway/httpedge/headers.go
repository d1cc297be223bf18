package httpedge

import (
	"net/http"
	"strconv"
	"time"
)

// Headers that are the same on every answer, made once; nobody writes into
// them. An answer is for programs: a browser that is led to show one shows
// nothing, runs nothing and is framed by nobody.
var (
	nosniff    = []string{"nosniff"}
	deny       = []string{"DENY"}
	noReferrer = []string{"no-referrer"}
	apiPolicy  = []string{"default-src 'none'; frame-ancestors 'none'"}
	// NoStore is for what one caller alone may see, and for every failure.
	noStore   = []string{NoStore}
	connClose = []string{"close"}
)

// NoStore is the Cache-Control of every answer that nobody says otherwise of.
const NoStore = "no-store"

func hsts(maxAge time.Duration) []string {
	if maxAge <= 0 {
		return nil
	}
	return []string{"max-age=" + strconv.FormatInt(int64(maxAge/time.Second), 10)}
}

// setHeaders puts on what every answer has, whatever becomes of the request.
func (x *Exchange) setHeaders(old bool) {
	h := x.w.Header()
	x.Annotate("X-Request-Id", x.Observed.ID)
	h["X-Content-Type-Options"] = nosniff
	h["X-Frame-Options"] = deny
	h["Content-Security-Policy"] = apiPolicy
	h["Referrer-Policy"] = noReferrer
	h["Cache-Control"] = noStore
	if x.Request.TLS != nil && x.server.hsts != nil {
		h["Strict-Transport-Security"] = x.server.hsts
	}
	if old {
		h["Connection"] = connClose // HTTP/2 makes a GOAWAY of it.
	}
}

// Annotate is Header.Add whose first values stand in the exchange: almost every
// answer has three, and a slice for each would be three allocations.
func (x *Exchange) Annotate(key, value string) {
	h := x.w.Header()
	if key = http.CanonicalHeaderKey(key); len(h[key]) > 0 || x.used == len(x.lines) {
		h[key] = append(h[key], value)
		return
	}
	h[key] = append(x.lines[x.used:x.used:x.used+1], value)
	x.used++
}
