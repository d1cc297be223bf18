package rest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/schema"
)

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

const testLimit = 1 << 16 // of newEdge

func TestGzipBodies(t *testing.T) {
	incompressible := make([]byte, testLimit)
	for i, v := 0, uint32(1); i < len(incompressible); i++ {
		v = v*1664525 + 1013904223
		incompressible[i] = byte(v >> 24)
	}
	good := zipped(t, []byte(`{"inner":{"owner":"ada"}}`))
	padded := func(n int) []byte { return zipped(t, append([]byte(`{}`), bytes.Repeat([]byte(" "), n-2)...)) }
	badSum := slices.Clone(good)
	badSum[len(badSum)-6] ^= 1
	for name, tc := range map[string]struct {
		body   []byte
		status int
		reason string
		limit  string
	}{
		"good":                        {good, 200, "", ""},
		"as large as goes, unpacked":  {padded(testLimit), 200, "", ""},
		"a byte too large, unpacked":  {padded(testLimit + 1), 413, "BODY_TOO_LARGE", "decoded_body_bytes"},
		"a bomb":                      {padded(8 << 20), 413, "BODY_TOO_LARGE", "decoded_body_bytes"},
		"too large as sent":           {zipped(t, incompressible), 413, "BODY_TOO_LARGE", "body_bytes"},
		"too deep":                    {zipped(t, bytes.Repeat([]byte("["), 1000)), 400, "JSON_TOO_DEEP", "json_depth"},
		"two members":                 {slices.Concat(good, good), 400, "BODY_NOT_GZIP", "encoding"},
		"garbage behind":              {append(slices.Clone(good), 0), 400, "BODY_NOT_GZIP", "encoding"},
		"cut short":                   {good[:len(good)-1], 400, "BODY_NOT_GZIP", "encoding"},
		"cut short in the header":     {good[:5], 400, "BODY_NOT_GZIP", "encoding"},
		"a wrong checksum":            {badSum, 400, "BODY_NOT_GZIP", "encoding"},
		"zlib":                        {[]byte("\x78\x9c\xab\xae\x05\x00\x01\x75\x00\xf9"), 400, "BODY_NOT_GZIP", "encoding"},
		"nothing":                     {nil, 200, "", ""},
		"zipped twice":                {zipped(t, good), 400, "", ""}, // What is inside is no JSON.
		"an extra field without end":  {append([]byte("\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\xff\xff"), make([]byte, 100)...), 400, "BODY_NOT_GZIP", "encoding"},
		"a name without end":          {append([]byte("\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xff"), bytes.Repeat([]byte("n"), 60000)...), 400, "BODY_NOT_GZIP", "encoding"},
		"an empty member is no value": {zipped(t, nil), 200, "", ""},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, chunked %v", name, chunked), func(t *testing.T) {
				e := newEdge(t, nil)
				r := httptest.NewRequest("POST", echoPath, bytes.NewReader(tc.body))
				r.Header.Set("Content-Encoding", "gzip")
				status, reason := tc.status, tc.reason
				if chunked {
					r.ContentLength = -1
					if len(tc.body) == 0 { // It says gzip, and is not even a header.
						status, reason, tc.limit = 400, "BODY_NOT_GZIP", "encoding"
					}
				}
				a := e.do(t, r)
				if a.status != status || a.reason != reason {
					t.Errorf("got %d %s, want %d %s: %s", a.status, a.reason, status, reason, a.body)
				}
				if got := strings.Join(e.refused(), " "); got != tc.limit {
					t.Errorf("counted %q, want %q", got, tc.limit)
				}
				if name == "good" && !strings.Contains(a.body, `"owner":"ada"`) {
					t.Errorf("the body did not arrive: %s", a.body)
				}
			})
		}
	}
}

// TestStreamedBodies: each value of a streamed body is held to the bounds, also
// when the body is compressed.
func TestStreamedBodies(t *testing.T) {
	deep := strings.Repeat(`{"inner":`, 64) + "{}" + strings.Repeat("}", 64)
	for name, tc := range map[string]struct {
		body   string
		status int
		want   string // reason, or part of the body
		limit  string
	}{
		"values":                  {`{"id":"a"} {"id":"b"}{"id":"c"}`, 200, `"index":3`, ""},
		"a value too deep":        {`{"id":"a"}` + deep, 400, "JSON_TOO_DEEP", "json_depth"},
		"a value too large":       {`{"failMessage":"` + strings.Repeat("x", testLimit) + `"}`, 413, "BODY_TOO_LARGE", "body_bytes"},
		"spaces without end":      {strings.Repeat(" ", 1<<20), 413, "BODY_TOO_LARGE", "body_bytes"},
		"many values, large once": {strings.Repeat(`{"failMessage":"`+strings.Repeat("x", 1000)+`"}`, 200), 200, `"index":200`, ""},
		"no JSON":                 {`{"id":"a"} nope`, 400, "", ""},
	} {
		for _, gz := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, gzip %v", name, gz), func(t *testing.T) {
				e := newEdge(t, nil)
				body := []byte(tc.body)
				r := httptest.NewRequest("POST", "/test/v1/up", nil)
				if gz {
					body = zipped(t, body)
					r.Header.Set("Content-Encoding", "gzip")
				}
				r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), -1
				a := e.do(t, r)
				if a.status != tc.status || (a.reason != tc.want && !strings.Contains(a.body, tc.want)) {
					t.Errorf("got %d %s: %s", a.status, a.reason, a.body)
				}
				if got := strings.Join(e.refused(), " "); got != tc.limit {
					t.Errorf("counted %q, want %q", got, tc.limit)
				}
				if want := fmt.Sprintf(`"bytes_in":%d`, len(body)); tc.status == 200 && !strings.Contains(e.log.String(), want) {
					t.Errorf("log lacks %s: %s", want, e.log)
				}
			})
		}
	}
	t.Run("gzip with something behind", func(t *testing.T) {
		e := newEdge(t, nil)
		r := httptest.NewRequest("POST", "/test/v1/up", bytes.NewReader(append(zipped(t, []byte(`{}`)), 'x')))
		r.Header.Set("Content-Encoding", "gzip")
		if a := e.do(t, r); a.status != 400 {
			t.Errorf("got %d %s", a.status, a.body)
		}
	})
}

// TestGoodEndOfABadStream: a service that ends well, before it is noticed that
// the call was ended for its body, does not make a success of it.
func TestGoodEndOfABadStream(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	m := testv1.File_sluice_test_v1_test_proto.Services().ByName("TestService").Methods().ByName("Chat")
	x := &exchange{Exchange: &httpedge.Exchange{}, binding: &Binding{Binding: &schema.Binding{Method: &policy.Method{Descriptor: m}}}, asked: asked{stream: &streamBody{}}}
	s := &handlerStream{Stream: &fakeStream{ctx: context.Background(), answered: true}, x: x, ctx: ctx}
	if err := s.receive(); !errors.Is(err, io.EOF) {
		t.Errorf("a good end: %v", err)
	}
	cancel(httpedge.BadField("body", "is wrong"))
	if err := s.receive(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a bad one: %v", err)
	}
}

// TestSlowBody: a body that stops coming is a 408, and counted.
func TestSlowBody(t *testing.T) {
	e := newEdge(t, func(o *edgeOptions) { o.ReadTimeout = 100 * time.Millisecond })
	addr := e.serve(t)
	for name, head := range map[string]string{
		"plain": "Content-Length: 100\r\n\r\n{", "gzip": "Content-Encoding: gzip\r\nContent-Length: 100\r\n\r\n\x1f", "chunked": "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			res := raw(t, addr, "POST "+echoPath+" HTTP/1.1\r\nHost: x\r\n"+head)
			if len(res) == 0 || res[0].status != 408 || res[0].reason != "BODY_TOO_SLOW" {
				t.Errorf("got %+v", res)
			}
		})
	}
	if got := e.refused(); !slices.Equal(got, []string{"body_slow", "body_slow", "body_slow"}) {
		t.Errorf("counted %v", got)
	}
}

// FuzzJSONDepth: on whatever encoding/json takes for JSON, the scanner counts
// what its tokens count; on the rest, no less up to where it breaks off; and
// the same in pieces.
func FuzzJSONDepth(f *testing.F) {
	for _, s := range []string{`{}`, `[[]]`, `{"a":[{"b":"]}\"["}]}`, `"\\"[`, `[1,2,{"a":[]}] {"b":[[]]}`, `]]]][[`, `{"[":"\u005b"}`, `"\\\"[[["`, "[\"a\n[[["} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		deepest, depth := 0, 0
		dec := json.NewDecoder(bytes.NewReader(data))
		var err error
		for {
			var tok json.Token
			if tok, err = dec.Token(); err != nil {
				break
			}
			switch tok {
			case json.Delim('{'), json.Delim('['):
				depth++
				deepest = max(deepest, depth)
			case json.Delim('}'), json.Delim(']'):
				depth--
			}
		}
		at := (&jsonDepth{}).scan(data, max(0, deepest-1))
		if (at >= 0) != (deepest > 0) && (errors.Is(err, io.EOF) || deepest > 0) {
			t.Fatalf("%q is %d deep; beyond %d at %d (%v)", data, deepest, deepest-1, at, err)
		}
		if at := (&jsonDepth{}).scan(data, deepest); at >= 0 && errors.Is(err, io.EOF) {
			t.Fatalf("%q is %d deep, the scanner finds more at %d", data, deepest, at)
		}
		whole := (&jsonDepth{}).scan(data, 2)
		pieces, half := &jsonDepth{}, max(0, min(cut, len(data)))
		parts := pieces.scan(data[:half], 2)
		if parts < 0 {
			if parts = pieces.scan(data[half:], 2); parts >= 0 {
				parts += half
			}
		}
		if parts != whole {
			t.Fatalf("%q: at %d, in pieces at %d", data, whole, parts)
		}
	})
}

func BenchmarkJSONDepth(b *testing.B) {
	body := []byte(`{"lines":[` + strings.Repeat(`{"sku":"tea-1","title":"Tea \"green\"","quantity":2,"price":{"currencyCode":"EUR","units":"3"}},`, 10) + `{}]}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		(&jsonDepth{}).scan(body, 64)
	}
}
