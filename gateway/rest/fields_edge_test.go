package rest

import (
	"bytes"
	stdgzip "compress/gzip"
	"encoding/json"
	"fmt"
	"github.com/klauspost/compress/zstd"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/httpbody"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
)

// Partial answers through the whole edge.
func TestMasksThroughTheEdge(t *testing.T) {
	for _, c := range []struct {
		name, method, target, header string
		status                       int
		body                         string // "" says that only errors are looked at
		errors                       string
	}{
		{"one field", "GET", "/test/v1/echo/e1?fields=id", "", 200, `{"id":"e1"}`, ""},
		{"by the header", "GET", "/test/v1/echo/e1", "id", 200, `{"id":"e1"}`, ""},
		{"below, in both forms", "GET", "/test/v1/echo/e1?inner.number=5&$fields=inner.number,deadline_ms", "", 200, `{"deadlineMs":"0","inner":{"number":5}}`, ""},
		{"all", "GET", "/test/v1/echo/e1?fields=*", "", 200, `{"id":"e1","metadata":{}`, ""},
		{"empty is all", "GET", "/test/v1/echo/e1?fields=", "", 200, `{"id":"e1","metadata":{}`, ""},
		{"unknown", "GET", "/test/v1/echo/e1?fields=id,nope,inner.nope", "", 400, "", "fields|unknown path \"nope\" fields|unknown path \"inner.nope\""},
		{"unknown beside an unknown parameter", "GET", "/test/v1/echo/e1?fields=id&nope=1", "", 400, "", "nope|unknown query parameter"},
		{"twice", "GET", "/test/v1/echo/e1?fields=id", "id", 400, "", "fields|is given more than once: one of `fields`, `$fields` and X-Goog-FieldMask is enough"},
		{"not of POST", "POST", "/test/v1/echo/e1?fields=id", "", 400, "", "fields|unknown query parameter: this call takes its fields from the body"},
		{"a list has no fields", "GET", "/test/v1/names?fields=names", "", 400, "", "fields|unknown path \"names\""},
		{"bytes have no fields", "GET", "/test/v1/download?fields=data", "", 400, "", "fields|this answer is not JSON: it has no fields to choose from"},
		{"each message of a stream", "GET", "/test/v1/down?fields=index", "", 200, `{"result":{"index":1}}`, ""},
		{"errors are whole", "GET", "/nowhere?fields=title", "", 404, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEdge(t, nil)
			r := httptest.NewRequest(c.method, c.target, strings.NewReader("{}"))
			r.Header.Set("Content-Type", "application/json")
			if c.header != "" {
				r.Header.Set("X-Goog-FieldMask", c.header)
			}
			a := e.do(t, r)
			if a.status != c.status || c.body != "" && !strings.HasPrefix(strings.ReplaceAll(a.body, " ", ""), c.body) {
				t.Errorf("%d %s", a.status, a.body)
			}
			if c.status == 400 && e.conn.called() > 0 {
				t.Error("the method was called")
			}
			var got []string
			for _, f := range problemOf(t, a).Errors {
				got = append(got, f.Field+"|"+f.Reason)
			}
			if strings.Join(got, " ") != c.errors {
				t.Errorf("errors %q", got)
			}
			if c.status == 200 && !slices.Contains(a.header["Vary"], "X-Goog-FieldMask") {
				t.Errorf("Vary %q", a.header["Vary"])
			}
		})
	}
}

// Compressed answers over real connections of both versions: GET and HEAD say the
// same of themselves, and what comes out is what is sent as it is.
func TestCompressionThroughTheEdge(t *testing.T) {
	e := newEdge(t, nil)
	addr := e.serve(t)
	long := strings.Repeat("a-very-long-name-", 120)
	target := "http://" + addr + "/test/v1/echo/" + long
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	t.Cleanup(client.CloseIdleConnections)
	fetch := func(method, target, accept string) (*http.Response, []byte) {
		r, err := http.NewRequestWithContext(t.Context(), method, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		if accept != "" {
			r.Header.Set("Accept-Encoding", accept)
		}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, b
	}
	_, plain := fetch("GET", target, "")
	for _, c := range []struct{ accept, want string }{{"", ""}, {"gzip", "gzip"}, {"gzip, deflate, br, zstd", "zstd"}, {"zstd;q=0.1", "zstd"}, {"br", ""}, {strings.Repeat("gzip,", 1000), ""}, {"gzip;q=x", ""}} {
		res, b := fetch("GET", target, c.accept)
		if got := res.Header.Get("Content-Encoding"); res.StatusCode != 200 || got != c.want || string(unpack(t, got, b)) != string(plain) {
			t.Errorf("%.30q: %d, Content-Encoding %q, %d bytes", c.accept, res.StatusCode, got, len(b))
		}
		if res.ContentLength != int64(len(b)) || (c.want != "" && len(b) >= len(plain)) || !slices.Contains(res.Header["Vary"], "Accept-Encoding") {
			t.Errorf("%.30q: Content-Length %d of %d bytes, Vary %q", c.accept, res.ContentLength, len(b), res.Header["Vary"])
		}
		head, none := fetch("HEAD", target, c.accept)
		for _, h := range []string{"Content-Length", "Content-Encoding", "Content-Type", "Vary"} {
			if fmt.Sprint(head.Header[h]) != fmt.Sprint(res.Header[h]) || len(none) > 0 {
				t.Errorf("%.30q: HEAD has %s %q, GET %q", c.accept, h, head.Header[h], res.Header[h])
			}
		}
	}
	if res, _ := fetch("GET", "http://"+addr+"/test/v1/echo/short", "gzip"); res.Header.Get("Content-Encoding") != "" {
		t.Error("a small answer is compressed")
	}
	e.conn.download = &httpbody.HttpBody{ContentType: "text/plain", Data: []byte(strings.Repeat("stream ", 1000))}
	for _, path := range []string{"/test/v1/download", "/test/v1/down"} {
		if res, _ := fetch("GET", "http://"+addr+path, "gzip"); res.StatusCode != 200 || res.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: %d, a stream with Content-Encoding %q", path, res.StatusCode, res.Header.Get("Content-Encoding"))
		}
	}
	off := newEdge(t, func(o *edgeOptions) { o.Compression.Off = true })
	r := httptest.NewRequest("GET", "/test/v1/echo/"+long, nil)
	r.Header.Set("Accept-Encoding", "gzip")
	if a := off.do(t, r); a.header.Get("Content-Encoding") != "" || slices.Contains(a.header["Vary"], "Accept-Encoding") {
		t.Errorf("switched off: %v", a.header)
	}
}

// A mask and compression, many at once, with answers of different sizes: nobody
// gets another's memory.
func TestCompressionIsEachAnswersOwn(t *testing.T) {
	e := newEdge(t, nil)
	done := make(chan string)
	for g := range 8 {
		go func() {
			for i := range 100 {
				id := strings.Repeat(fmt.Sprintf("%d-%d-", g, i), 100+i)
				r := httptest.NewRequest("GET", "/test/v1/echo/"+id+"?fields=id", nil)
				accept := []string{"gzip", "zstd"}[i%2]
				r.Header.Set("Accept-Encoding", accept)
				w := httptest.NewRecorder()
				e.ServeHTTP(w, r)
				b := w.Body.Bytes()
				if enc := w.Header().Get("Content-Encoding"); enc != "" {
					b = unpack(t, enc, b)
				}
				if want := `{"id":"` + id + `"}`; string(b) != want {
					done <- fmt.Sprintf("%d %.40q, want %.40q", w.Code, b, want)
					return
				}
			}
			done <- ""
		}()
	}
	for range 8 {
		if bad := <-done; bad != "" {
			t.Error(bad)
		}
	}
}

func problemOf(t *testing.T, a answer) httpedge.Problem {
	t.Helper()
	var p httpedge.Problem
	if a.status >= 400 {
		if err := json.Unmarshal([]byte(a.body), &p); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// unpack reads an answer with libraries that did not write it, where there are
// any.
func unpack(t testing.TB, encoding string, b []byte) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	switch encoding {
	case "gzip":
		z, err := stdgzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		r = z
	case "zstd":
		// RFC 9659: what the web may be sent.
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
