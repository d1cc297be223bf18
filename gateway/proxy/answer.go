package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// maxTransform bounds an answer whose JSON is changed, in bytes.
const maxTransform = 16 << 20

// ours are headers of answers that the gateway alone says, or that would send callers
// past it.
var ours = names(headerRequestID, "Alt-Svc", "Proxy-Authenticate", "Proxy-Connection")

func gatewaysOwn(name string) bool {
	return ours[name] || strings.HasPrefix(name, "X-Sluice-") || strings.HasPrefix(name, "Access-Control-")
}

// limits are those that checks write while they decide.
var limits = []string{"Ratelimit", "Ratelimit-Policy"}

// modifyResponse makes a service's answer the gateway's.
func modifyResponse(res *http.Response) error {
	q := requestOf(res.Request.Context())
	if res.StatusCode < http.StatusContinue {
		return fmt.Errorf("%w: status %03d", errNonsense, res.StatusCode)
	}
	h := res.Header
	for name := range h {
		if gatewaysOwn(name) {
			delete(h, name)
		}
	}
	q.status = res.StatusCode
	q.wrote(res.StatusCode, h)
	if res.StatusCode == http.StatusSwitchingProtocols {
		return q.upgrade(res)
	}
	if err := q.transformAnswer(res); err != nil {
		return err
	}
	q.route.response.Apply(h, q.values())
	res.Body = watched{res.Body, &q.watch}
	if res.ContentLength < 0 {
		q.endAtDrain()
	}
	return nil
}

// endAtDrain is for what may never end by itself.
func (q *Request) endAtDrain() {
	q.undrain = context.AfterFunc(q.p.draining, func() { q.watch.cancel(errDraining) })
}

// upgrade prepares a WebSocket. Only what was asked for may come.
func (q *Request) upgrade(res *http.Response) error {
	if q.in.Header["Upgrade"] == nil {
		return fmt.Errorf("%w: the service switched protocols, and nobody had asked", errNonsense)
	}
	rw, ok := res.Body.(io.ReadWriteCloser)
	if !ok {
		return fmt.Errorf("%w: a connection that cannot be written to", errNonsense)
	}
	res.Body = tunnel{rw, &q.watch}
	q.endAtDrain()
	q.upgraded = true
	res.Header[headerRequestID] = []string{q.call.RequestID}
	return nil
}

// transformAnswer applies the rules of JSON answers. A success that is no JSON is a
// mistake of the service's: a rule that takes something away must not be passed by.
func (q *Request) transformAnswer(res *http.Response) error {
	if q.route.out == nil || res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified {
		return nil
	}
	h := res.Header
	h.Del("Accept-Ranges")
	weaken(h)
	if q.in.Method == http.MethodHead { // Whatever it says is not of what GET would send.
		h.Del("Content-Length")
		res.ContentLength = -1
		return nil
	}
	if !isJSON(h.Get("Content-Type")) {
		if res.StatusCode >= http.StatusBadRequest {
			return nil
		}
		return &BodyError{"", "is no JSON"}
	}
	if e := h.Get("Content-Encoding"); e != "" && e != "identity" {
		return &BodyError{"", "is encoded, which was not asked for"}
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxTransform+1))
	if err != nil {
		return err
	}
	if len(data) > maxTransform {
		return &BodyError{"", "is larger than " + strconv.Itoa(maxTransform) + " bytes"}
	}
	changed, err := q.route.out.apply(data)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(changed)), int64(len(changed))
	res.TransferEncoding, res.Trailer = nil, nil
	h["Content-Length"] = []string{strconv.Itoa(len(changed))}
	for _, name := range []string{"Digest", "Content-Digest", "Repr-Digest", "Content-Md5"} {
		h.Del(name)
	}
	return nil
}

// weaken: what was changed is no longer the same byte for byte (RFC 9110, 8.8.1).
func weaken(h http.Header) {
	if e := h.Get("Etag"); e != "" && !strings.HasPrefix(e, "W/") {
		h.Set("Etag", "W/"+e)
	}
}

// writer is what the reverse proxy writes to. It has a header of its own: the reverse
// proxy clears it when a service sends an interim answer (1xx), which is not passed on.
type writer struct {
	http.ResponseWriter
	header  http.Header
	wrote   bool
	trailer []string

	handshake bool // a WebSocket was asked for
	hijacked  bool
}

// Header is the service's. When the connection has become a WebSocket, the reverse proxy
// asks once to put the service's fields in, and once to write them: it gives them its own
// spelling in between.
func (w *writer) Header() http.Header {
	if w.hijacked {
		spellWebSocket(w.header)
	}
	return w.header
}

// Hijack hands the connection over, for WebSockets.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.hijacked = true
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap gives http.ResponseController the exchange.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader puts the service's headers in the place of the gateway's of the same
// name, but for those that only the gateway says.
func (w *writer) WriteHeader(code int) {
	if w.wrote || code < http.StatusOK {
		return
	}
	w.wrote = true
	if w.handshake { // It was refused, in a version of the service's perhaps.
		spellWebSocket(w.header)
	}
	to := w.ResponseWriter.Header()
	for _, line := range w.header["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name != "" && !gatewaysOwn(name) {
				w.trailer = append(w.trailer, name)
			}
		}
	}
	for name, values := range w.header {
		switch {
		case name == "Vary":
			to[name] = append(slices.Clip(to[name]), values...)
		case slices.Contains(limits, name) && len(to[name]) > 0, name == "Strict-Transport-Security" && len(to[name]) > 0:
		case name == "Connection", name == "Trailer":
		default:
			to[name] = values
		}
	}
	if len(w.trailer) > 0 {
		to["Trailer"] = w.trailer
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *writer) Write(b []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// finish passes the trailers on that were announced; others mean nothing to callers
// who were not told.
func (w *writer) finish() {
	to := w.ResponseWriter.Header()
	for _, name := range w.trailer {
		values := w.header[http.TrailerPrefix+name] // So the reverse proxy writes all, where some were not announced.
		if len(values) == 0 {
			values = w.header[name]
		}
		if len(values) > 0 {
			to[name] = values
		}
	}
}
