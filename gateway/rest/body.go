package rest

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"
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
		return http.NoBody, nil
	}
	if e := x.r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, unsupportedEncoding()
	}
	ct := x.r.Header.Get("Content-Type")
	if b.body != bodyRaw && !isJSON(ct) && x.r.ContentLength != 0 {
		return nil, unsupportedMedia()
	}
	if b.body == bodyStream {
		x.unlimitReadTime() // The stream's own bounds hold.
		return x.streamBody(rule.MaxRequestBytes)
	}
	data, err := x.readAll(rule.MaxRequestBytes)
	if err != nil {
		return nil, err
	}
	x.unlimitReadTime()
	if b.body == bodyRaw {
		return &rawBody{jsonBody{data: data}, ct}, nil
	}
	x.body = data
	return &jsonBody{data: data}, nil
}

func (x *exchange) readAll(limit int64) ([]byte, error) {
	if x.r.ContentLength > limit {
		return nil, bodyTooLarge(limit)
	}
	if x.r.ContentLength == 0 {
		return nil, nil
	}
	buf := make([]byte, 0, max(512, x.r.ContentLength+1))
	for {
		n, err := x.r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		x.bytesIn.Add(int64(n))
		switch {
		case int64(len(buf)) > limit:
			return nil, bodyTooLarge(limit)
		case errors.Is(err, io.EOF):
			return buf, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, bodyTooSlow()
		case err != nil:
			return nil, bodyBroken()
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
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

// hurryBody gives the rest of a body that nobody will read a moment to come:
// net/http reads it before it answers, to keep the connection, and must not
// wait for a caller who sends it slowly.
func (x *exchange) hurryBody() {
	if x.r.ContentLength != 0 && !x.bodyRead {
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(hurry))
	}
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
