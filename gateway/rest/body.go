package rest

import (
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
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
		if x.Request.ContentLength > rule.MaxRequestBytes {
			return nil, httpedge.BodyTooLarge(rule.MaxRequestBytes)
		}
		x.DiscardBody(rule.MaxRequestBytes)
		return http.NoBody, nil
	}
	gzipped, err := httpedge.Gzipped(x.Request.Header)
	if err != nil {
		return nil, err
	}
	ct, err := x.mediaType()
	if err != nil {
		return nil, err
	}
	if b.body == bodyStream {
		return x.streamBody(rule.MaxRequestBytes, gzipped)
	}
	data, err := x.ReadAll(rule.MaxRequestBytes, gzipped)
	if err != nil {
		return nil, err
	}
	x.UnlimitReadTime()
	if b.body == bodyRaw {
		return &rawBody{jsonBody{data: data}, ct}, nil
	}
	if most := x.server.o.MaxJSONDepth; (&jsonDepth{}).scan(data, most) >= 0 {
		return nil, httpedge.Refuse("json_depth", jsonTooDeep(most))
	}
	x.body = data
	return &jsonBody{data: data}, nil
}

// mediaType checks the Content-Type against what the binding takes.
func (x *exchange) mediaType() (string, error) {
	var ct string
	if vs := x.Request.Header["Content-Type"]; len(vs) > 0 {
		if ct = vs[0]; len(vs) > 1 { // Two readers could take two of them.
			return "", httpedge.Refuse("media_type", unsupportedMedia())
		}
	}
	if x.binding.body == bodyRaw {
		if _, _, err := mime.ParseMediaType(ct); ct != "" && (err != nil || !utf8.ValidString(ct)) {
			return "", httpedge.Refuse("media_type", brokenMedia())
		}
		return ct, nil
	}
	if !isJSON(ct) && x.Request.ContentLength != 0 {
		return "", httpedge.Refuse("media_type", unsupportedMedia())
	}
	return ct, nil
}

// isJSON accepts application/json, types with the suffix +json, and silence.
func isJSON(contentType string) bool {
	if contentType == "" || contentType == "application/json" {
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == "application/json" || strings.HasSuffix(t, "+json") || t == "application/x-ndjson")
}
