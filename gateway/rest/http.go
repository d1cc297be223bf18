package rest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// HTTPPhase says when plain HTTP routes are asked.
type HTTPPhase int

// The phases: routes that name a host come before all else, the rest after the
// routes of RPCs and the mounts.
const (
	HTTPWithHost HTTPPhase = iota
	HTTPWithoutHost
)

// HTTPRoutes are the routes to plain HTTP services: gateway/proxy has them. Safe for
// concurrent use.
type HTTPRoutes interface {
	// Match finds the route of a request that asks with method, which for a preflight
	// is not its own. Path is the one string that routing and policy read, decoded.
	Match(r *http.Request, method, path string, at HTTPPhase) (HTTPRoute, bool)
	// Allowed names the methods that would have been found, sorted; nil for none.
	Allowed(r *http.Request, path string, at HTTPPhase) []string
}

// HTTPRoute is a route that a request has taken. It belongs to the request.
type HTTPRoute interface {
	// Name is the label of logs and metrics.
	Name() string
	// Method has the rule; it has no descriptor.
	Method() *policy.Method
	// WebSocket says whether upgrades are passed on.
	WebSocket() bool
	// Serve answers an admitted request. An error, a status, is answered here where
	// nothing has been written yet; otherwise the exchange breaks. The body has its
	// bounds, the header what hop-by-hop fields leave.
	Serve(w http.ResponseWriter, r *http.Request, call *policy.Call) error
}

// servePlain looks for a plain HTTP route, and says whether it has answered.
func (s *Server) servePlain(ctx context.Context, x *exchange, path string, at HTTPPhase) bool {
	if s.o.HTTP == nil {
		return false
	}
	if x.r.Method == http.MethodOptions && s.servePreflight(x, path, at) {
		return true
	}
	route, ok := s.o.HTTP.Match(x.r, x.r.Method, path, at)
	if !ok {
		if allow := s.o.HTTP.Allowed(x.r, path, at); len(allow) > 0 {
			x.notAllowed(allow)
			return true
		}
		return false
	}
	m := route.Method()
	x.observed.Route, x.plain = route.Name(), m
	if err := s.plainCall(ctx, x, route); err != nil {
		x.failOrBreak(err)
	}
	x.endReads(hurry)
	return true
}

// servePreflight answers what a browser asks before a page of another origin may
// call: that has no credential, so no service could be asked.
func (s *Server) servePreflight(x *exchange, path string, at HTTPPhase) bool {
	asked := x.r.Header.Get("Access-Control-Request-Method")
	if s.cors == nil || asked == "" || x.r.Header.Get("Origin") == "" {
		return false
	}
	route, ok := s.o.HTTP.Match(x.r, asked, path, at)
	if !ok {
		return false
	}
	x.observed.Route = route.Name()
	x.options([]string{asked, http.MethodOptions})
	return true
}

// plainCall is the rest of the walk of a request that took a plain HTTP route.
func (s *Server) plainCall(ctx context.Context, x *exchange, route HTTPRoute) error {
	upgrade := x.webSocket && route.WebSocket()
	if err := s.crossSite(x); err != nil {
		return err
	}
	if upgrade && !s.originMay(x) {
		return refuse(limitCrossOrigin, crossOriginRefused())
	}
	x.call.Method = route.Method()
	ctx, err := s.o.Edge.Admit(ctx, &x.call)
	if err != nil {
		s.o.Denied(x.call.DeniedBy, x.call.Method)
		return err
	}
	most := x.call.Method.Rule.MaxRequestBytes
	if most > 0 && x.r.ContentLength > most {
		return refuse("body_bytes", bodyTooLarge(most))
	}
	body := x.plainBody(most)
	if body != nil {
		var leave context.CancelCauseFunc
		ctx, leave = context.WithCancelCause(ctx)
		defer leave(nil)
		x.watchDeparture(leave)
	}
	r := x.r.WithContext(ctx)
	if upgrade {
		r.Header["Connection"], r.Header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	} else {
		delete(r.Header, "Upgrade")
	}
	if body != nil {
		r.Body = body
		defer body.end()
	}
	x.roll()
	err = route.Serve(x, r, &x.call)
	if body != nil {
		if cause := body.failure(); cause != nil && err != nil { // What the service's end made of it explains less.
			err = cause
		}
	}
	return err
}

// failOrBreak answers with an error, or breaks an answer that has begun: HTTP/1.1 cuts
// the connection without a last chunk, HTTP/2 resets the stream, http10.go the
// connection. It must not look whole.
func (x *exchange) failOrBreak(err error) {
	if x.status == 0 {
		h := x.w.Header()
		h.Del("Trailer")
		h.Del("Content-Encoding")
		x.fail(err)
		return
	}
	x.err = err
	if x.hijacked {
		return
	}
	x.endReads(0)
	panic(http.ErrAbortHandler)
}

// originMay says whether a page may open a WebSocket: browsers ask nobody before,
// and let any page read it. Where pages of other origins may call is CORS's to say,
// and whether with cookies and client certificates: those a browser sends here
// unasked. Programs send no Origin.
func (s *Server) originMay(x *exchange) bool {
	origin := x.r.Header["Origin"]
	switch len(origin) {
	case 0:
		return true
	case 1:
	default:
		return false
	}
	if _, host, ok := strings.Cut(origin[0], "://"); ok && strings.EqualFold(host, x.r.Host) {
		return true
	}
	if s.cors == nil || (x.call.PeerCertificate != nil || len(x.r.Header["Cookie"]) > 0) && !s.cors.credentials {
		return false
	}
	return s.cors.origins.any && origin[0] != "null" || s.cors.origins.allow(origin[0])
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

// Hijack hands the connection over, for WebSockets.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(x.w).Hijack()
	if err == nil {
		x.status, x.hijacked = http.StatusSwitchingProtocols, true
	}
	return c, rw, err
}

// plainBody is a body that is passed on as it comes: no more than most bytes, each
// part of it within the time that a body may take.
type plainBody struct {
	src  io.ReadCloser
	x    *exchange
	most int64 // what is left; below 0 is unbounded
	rc   *http.ResponseController

	mu   sync.Mutex
	over bool // read to its end, or the exchange is over: no deadline any more
	err  error
	eof  bool
}

// plainBody returns nil where there is no body.
func (x *exchange) plainBody(most int64) *plainBody {
	x.bodyRead = true // Its deadlines are its own.
	if x.r.Body == nil || x.r.Body == http.NoBody || x.r.ContentLength == 0 {
		return nil
	}
	rc := http.NewResponseController(x.w)
	// Over HTTP/1 net/http would otherwise swallow what is left of the body before the
	// first byte of the answer.
	_ = rc.EnableFullDuplex()
	if most <= 0 {
		most = -1
	}
	b := &plainBody{src: x.r.Body, x: x, most: most, rc: rc}
	x.unread = b.unread
	return b
}

// unread says whether the end of the body has not been read yet.
func (b *plainBody) unread() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.eof
}

func (b *plainBody) Read(p []byte) (int, error) {
	b.x.reading.Lock()
	defer b.x.reading.Unlock()
	b.mu.Lock()
	if b.over || b.err != nil {
		defer b.mu.Unlock()
		switch {
		case b.err != nil:
			return 0, b.err
		case b.eof: // The transport looks behind a body whose length it knows.
			return 0, io.EOF
		}
		return 0, http.ErrBodyReadAfterClose
	}
	_ = b.rc.SetReadDeadline(time.Now().Add(b.x.server.o.ReadTimeout))
	b.mu.Unlock()
	if b.most >= 0 && int64(len(p)) > b.most+1 {
		p = p[:b.most+1]
	}
	n, err := b.src.Read(p)
	b.x.bytesIn.Add(int64(n))
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.most >= 0 {
		if b.most -= int64(n); b.most < 0 {
			b.err = refuse("body_bytes", bodyTooLarge(b.x.call.Method.Rule.MaxRequestBytes))
			return 0, b.err
		}
	}
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.eof = true
		if b.over {
			break
		}
		b.over = true
		b.x.departure.stop()
		_ = b.rc.SetReadDeadline(time.Time{})
	case b.over:
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.err = refuse("body_slow", bodyTooSlow())
		return n, b.err
	default:
		b.err = bodyBroken()
		return n, b.err
	}
	return n, err
}

// Close is the service's side being done; net/http closes the body itself.
func (b *plainBody) Close() error { return nil }

func (b *plainBody) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// end gives what nobody will read a moment to come: see hurryBody, and endReads.
func (b *plainBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over {
		b.over = true
		_ = b.rc.SetReadDeadline(time.Now().Add(hurry))
	}
}
