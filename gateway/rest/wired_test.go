package rest

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// TestPartialAnswers: a mask prunes whole answers and streams, by parameter and by
// header; an unknown path is named.
func TestPartialAnswers(t *testing.T) {
	places(t, func(t *testing.T, e *edge, b *backend) {
		m := &testv1.EchoResponse{Id: "i", Padding: "secret", Inner: &testv1.Inner{Owner: "o", Number: 7}}
		b.answers = []any{m, m}
		for path, want := range map[string]string{
			echoPath + "?fields=id,inner.number":            `{"id":"i","inner":{"number":7}}`,
			echoPath + "?%24fields=id":                      `{"id":"i"}`,
			"/test/v1/down?fields=id&count=1":               `{"result":{"id":"i"}}` + "\n" + `{"result":{"id":"i"}}` + "\n",
			"/test/v1/shelves/s/books/b?fields=inner.owner": `{"inner":{"owner":"o"}}`,
		} {
			if got := e.do(t, httptest.NewRequest("GET", path, nil)); got.status != 200 || got.body != want {
				t.Errorf("%s: %d %s", path, got.status, got.body)
			}
		}
		r := httptest.NewRequest("GET", echoPath, nil)
		r.Header.Set("X-Goog-FieldMask", "id")
		if got := e.do(t, r); got.body != `{"id":"i"}` || !strings.Contains(strings.Join(got.header.Values("Vary"), ","), "X-Goog-FieldMask") {
			t.Errorf("by header: %v %s", got.header, got.body)
		}
		if got := e.do(t, httptest.NewRequest("GET", echoPath+"?fields=id,nope", nil)); got.status != 400 || !strings.Contains(got.body, "nope") || !strings.Contains(got.body, `"field":"fields"`) {
			t.Errorf("%d %s", got.status, got.body)
		}
	})
}

// TestCompressedAnswers: what is large comes compressed to those who take it, with
// its length, also to HEAD; a stream and an answer without a body never do.
func TestCompressedAnswers(t *testing.T) {
	places(t, func(t *testing.T, e *edge, b *backend) {
		b.answers = []any{&testv1.EchoResponse{Id: "i", Padding: strings.Repeat("pad ", 2000)}}
		ask := func(method, path, accept string) answer {
			r := httptest.NewRequest(method, path, nil)
			r.Header.Set("Accept-Encoding", accept)
			return e.do(t, r)
		}
		plain, packed, head := ask("GET", echoPath, ""), ask("GET", echoPath, "gzip"), ask(http.MethodHead, echoPath, "gzip")
		z, err := gzip.NewReader(bytes.NewReader([]byte(packed.body)))
		if err != nil {
			t.Fatalf("%v: %v", err, packed.header)
		}
		unpacked, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		sameJSON(t, string(unpacked), plain.body)
		if l := packed.header.Get("Content-Length"); l != strconv.Itoa(len(packed.body)) || l != head.header.Get("Content-Length") || packed.header.Get("Content-Encoding") != "gzip" || len(packed.body) > len(plain.body)/4 {
			t.Errorf("%v, %v", packed.header, head.header)
		}
		if got := ask("GET", "/test/v1/down", "gzip"); got.header.Get("Content-Encoding") != "" || !strings.HasPrefix(got.body, `{"result"`) {
			t.Errorf("a stream: %v", got.header)
		}
		nothing := bindingTo(t, e, "Nothing").ask()
		nothing.Header.Set("Accept-Encoding", "gzip")
		if got := e.do(t, nothing); got.status != http.StatusNoContent || got.header.Get("Content-Encoding") != "" || got.body != "" {
			t.Errorf("204: %d %v %q", got.status, got.header, got.body)
		}
	})
}
