package rest

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// jsonBody is a JSON request body, read whole before the handler runs.
type jsonBody struct {
	data []byte
	at   int
}

func (b *jsonBody) Read(p []byte) (int, error) {
	if b.at == len(b.data) {
		return 0, io.EOF
	}
	n := copy(p, b.data[b.at:])
	b.at += n
	return n, nil
}

func (b *jsonBody) Close() error { return nil }

// rawBody is a body that becomes a google.api.HttpBody.
type rawBody struct {
	jsonBody
	contentType string
}

// readBody reads the body as the binding wants it: JSON and pictures whole and
// bounded, so that what is wrong with them is known before the handler
// flattens it; streams as they come.
func (x *exchange) readBody() (io.ReadCloser, error) {
	b, rule := x.binding, &x.binding.Method.Rule
	if b.body == bodyNone {
		// Nothing of it is used; but who announces so much gets the answer that the
		// same size gets over gRPC.
		if x.r.ContentLength > rule.MaxRequestBytes {
			return nil, bodyTooLarge(rule.MaxRequestBytes)
		}
		x.discardBody(rule.MaxRequestBytes)
		return http.NoBody, nil
	}
	gzipped, err := encoding(x.r.Header)
	if err != nil {
		return nil, err
	}
	ct, err := x.mediaType()
	if err != nil {
		return nil, err
	}
	if b.body == bodyStream {
		x.unlimitReadTime() // The stream's own bounds hold.
		return x.streamBody(rule.MaxRequestBytes, gzipped)
	}
	data, err := x.readAll(rule.MaxRequestBytes, gzipped)
	if err != nil {
		return nil, err
	}
	x.unlimitReadTime()
	if b.body == bodyRaw {
		return &rawBody{jsonBody{data: data}, ct}, nil
	}
	if most := x.server.o.MaxJSONDepth; (&jsonDepth{}).scan(data, most) >= 0 {
		return nil, refuse("json_depth", jsonTooDeep(most))
	}
	x.body = data
	return &jsonBody{data: data}, nil
}

// mediaType checks the Content-Type against what the binding takes.
func (x *exchange) mediaType() (string, error) {
	var ct string
	if vs := x.r.Header["Content-Type"]; len(vs) > 0 {
		if ct = vs[0]; len(vs) > 1 { // Two readers could take two of them.
			return "", refuse("media_type", unsupportedMedia())
		}
	}
	if x.binding.body == bodyRaw {
		if _, _, err := mime.ParseMediaType(ct); ct != "" && (err != nil || !utf8.ValidString(ct)) {
			return "", refuse("media_type", brokenMedia())
		}
		return ct, nil
	}
	if !isJSON(ct) && x.r.ContentLength != 0 {
		return "", refuse("media_type", unsupportedMedia())
	}
	return ct, nil
}

// readAll reads a body whole: no more than limit bytes as sent, and as many
// unpacked.
func (x *exchange) readAll(limit int64, gzipped bool) ([]byte, error) {
	if x.r.ContentLength > limit {
		return nil, refuse("body_bytes", bodyTooLarge(limit))
	}
	if x.r.ContentLength == 0 {
		return nil, nil
	}
	if !gzipped {
		data, err := fill(x.r.Body, x.r.ContentLength+1, limit)
		x.bytesIn.Add(int64(len(data)))
		if err != nil {
			return nil, bodyError(err, limit)
		}
		return data, nil
	}
	g := newGunzip(x.r.Body, limit, &x.bytesIn)
	defer g.release()
	data, err := fill(g, x.r.ContentLength*4, limit)
	switch {
	case err == nil:
		return data, nil
	case g.src.err != nil:
		return nil, bodyError(g.src.err, limit)
	case errors.Is(err, errTooLarge):
		return nil, refuse("decoded_body_bytes", decodedTooLarge(limit))
	}
	return nil, refuse("encoding", badGzip())
}

// firstBuffer bounds what is set aside for a body before any of it has come: a
// caller may promise what it never sends.
const firstBuffer = 64 << 10

// fill reads all of r, setting aside at most limit+1 bytes; errTooLarge means
// there is more. What was read is returned beside an error, too.
func fill(r io.Reader, hint, limit int64) ([]byte, error) {
	buf := make([]byte, 0, min(max(hint, 512), firstBuffer, limit+1))
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			return buf, errTooLarge
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			return buf, err
		}
		if len(buf) == cap(buf) {
			bigger := make([]byte, len(buf), min(2*int64(cap(buf)), limit+1))
			copy(bigger, buf)
			buf = bigger
		}
	}
}

func bodyError(err error, limit int64) error {
	switch {
	case errors.Is(err, errTooLarge):
		return refuse("body_bytes", bodyTooLarge(limit))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse("body_slow", bodyTooSlow())
	}
	return bodyBroken()
}

// limitReadTime bounds how long the body may take, from the first moment: a
// request that is refused before its body is read makes net/http read on. It is
// not the server's ReadTimeout, which would also end long answers.
func (x *exchange) limitReadTime() {
	if x.r.ContentLength == 0 {
		return
	}
	rc := http.NewResponseController(x.w)
	if err := rc.SetReadDeadline(time.Now().Add(x.server.o.ReadTimeout)); err != nil {
		x.server.o.Logger.Debug("read deadline not supported", "error", err)
	}
}

// unlimitReadTime ends the bound once the body is there: net/http goes on
// reading to notice a client that leaves, and would take the deadline for one.
func (x *exchange) unlimitReadTime() {
	x.bodyRead = true
	if x.r.ContentLength != 0 {
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Time{})
	}
}

// hurryBody gives the rest of a body that nobody will read a moment to come, from
// when the answer begins: net/http reads it first, to keep the connection, and
// must not wait for a caller who sends it slowly. Once it has all of it, it lifts
// the bound by itself, and a stream goes on.
func (x *exchange) hurryBody() {
	if x.r.ContentLength == 0 || x.bodyRead {
		return
	}
	x.departure.hurry(http.NewResponseController(x.w))
}

// endReads waits for a read of a body that another goroutine has under way, which gets a
// last moment, too. net/http would break it off itself, lift every deadline with that,
// and read on from a caller who need not send anything. No read begins any more: the body
// knows that the exchange is over.
func (x *exchange) endReads(moment time.Duration) {
	if x.unread == nil || x.r.ProtoMajor != 1 || x.hijacked || !x.unread() {
		return
	}
	rc := http.NewResponseController(x.w)
	if rc.SetReadDeadline(time.Now().Add(moment)) != nil {
		return
	}
	if !x.reading.TryLock() {
		if x.status != 0 { // The answer need not wait.
			_ = rc.Flush()
		}
		x.reading.Lock()
	}
	x.reading.Unlock()
}

const hurry = 500 * time.Millisecond

// isJSON accepts application/json, types with the suffix +json, and silence.
func isJSON(contentType string) bool {
	if contentType == "" || contentType == "application/json" {
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == "application/json" || strings.HasSuffix(t, "+json") || t == "application/x-ndjson")
}
