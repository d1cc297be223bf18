package rest

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
)

// early is a plain HTTP route whose service answers while its body is being read by
// another goroutine, as http.Transport does.
type early struct {
	answer func(http.ResponseWriter) error
	read   chan struct{} // a value for each reader that has ended
}

// Serve implements httpedge.Protocol.
func (e *early) Serve(ctx context.Context, x *httpedge.Exchange, path string) bool {
	if !strings.HasPrefix(path, "/plain") {
		return false
	}
	x.Foreign()
	body, err := x.PassBody(0)
	if err == nil {
		r := x.Request.WithContext(ctx)
		r.Body = body
		err = e.serve(x, r)
		body.End()
	}
	if err != nil {
		x.FailOrBreak(err)
	}
	x.EndReads()
	return true
}

func (e *early) serve(w http.ResponseWriter, r *http.Request) error {
	begun := make(chan struct{})
	go func() {
		_, _ = r.Body.Read(make([]byte, 1))
		close(begun)
		_, _ = io.Copy(io.Discard, r.Body)
		e.read <- struct{}{}
	}()
	<-begun
	return e.answer(w)
}

// TestSilentCallerOfAnEarlyAnswer: who sends a part of a body and then nothing holds no
// connection once it is answered: net/http would wait for the rest as long as it likes.
func TestSilentCallerOfAnEarlyAnswer(t *testing.T) {
	answers := map[string]func(http.ResponseWriter) error{
		"an answer":      func(w http.ResponseWriter) error { _, err := io.WriteString(w, "early"); return err },
		"a status alone": func(w http.ResponseWriter) error { w.WriteHeader(http.StatusNoContent); return nil },
		"a failure":      func(http.ResponseWriter) error { return status.Error(codes.Unavailable, "gone") },
		"a flushed answer": func(w http.ResponseWriter) error {
			w.WriteHeader(http.StatusOK)
			return http.NewResponseController(w).Flush()
		},
		"an answer, cut short": func(w http.ResponseWriter) error { _, _ = io.WriteString(w, "e"); return io.ErrUnexpectedEOF },
	}
	var packed strings.Builder
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, "{}")
	_ = z.Close()
	for name, answer := range answers {
		for what, head := range map[string]string{"a length": "Content-Length: 1000\r\n\r\nx", "chunks": "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", "half a chunk": "Transfer-Encoding: chunked\r\n\r\n9\r\nx"} {
			t.Run(name+", "+what, func(t *testing.T) {
				t.Parallel()
				r := &early{answer: answer, read: make(chan struct{}, 1)}
				e := newEdge(t, func(o *edgeOptions) { o.ReadTimeout, o.Protocols = time.Hour, []httpedge.Protocol{r} })
				closed(t, e.serve(t), "POST /plain HTTP/1.1\r\nHost: x\r\n"+head)
				<-r.read
			})
		}
	}
	// A stream's service that answers without reading to the end of its messages.
	for name, head := range map[string]string{
		"messages":                     "Content-Length: 1000\r\n\r\n{}",
		"packed messages and no chunk": "Content-Encoding: gzip\r\nContent-Length: 1000\r\n\r\n" + packed.String(),
		"nothing":                      "Content-Length: 1000\r\n\r\n",
		"half a message":               "Transfer-Encoding: chunked\r\n\r\n9\r\n{",
	} {
		t.Run("a stream, "+name, func(t *testing.T) {
			t.Parallel()
			e := newEdge(t, func(o *edgeOptions) { o.ReadTimeout = time.Hour })
			closed(t, e.serve(t), "POST /test/v1/chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+head)
		})
	}
}
