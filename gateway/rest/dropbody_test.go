package rest

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
)

// TestBodyThatNobodyTakes: where a call takes no body, one that is announced and
// never sent does not hold up the answer until the bound on bodies ends it.
func TestBodyThatNobodyTakes(t *testing.T) {
	e := newEdge(t, func(o *edgeOptions) {
		o.ReadTimeout = time.Hour
		o.Mounts = httpedge.Mounts{{Path: "/docs", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "docs") })}}
	})
	addr := e.serve(t)
	const (
		host     = " HTTP/1.1\r\nHost: x\r\n"
		unsent   = "Content-Length: 1000\r\n\r\n"
		sent     = "Content-Length: 5\r\n\r\nhello"
		expected = "Expect: 100-continue\r\n" + unsent
		chunks   = "Transfer-Encoding: chunked\r\n\r\n"
	)
	next := "GET " + echoPath + host + "\r\n"
	for name, tc := range map[string]struct {
		send string
		want []int
		keep bool // the connection
	}{
		"a call":                        {"GET " + echoPath + host + unsent, []int{200}, false},
		"a call that waits to be asked": {"GET " + echoPath + host + expected, []int{200}, false},
		"a call in chunks":              {"GET " + echoPath + host + chunks, []int{200}, false},
		"a call in chunks that stop":    {"GET " + echoPath + host + chunks + "5\r\nhello\r\n", []int{200}, false},
		"a mount":                       {"GET /docs" + host + unsent, []int{200}, false},
		"methods of a route":            {"OPTIONS " + echoPath + host + unsent, []int{204}, false},
		"methods of a mount":            {"OPTIONS /docs" + host + unsent, []int{204}, false},
		"methods of all":                {"OPTIONS *" + host + unsent, []int{204}, false},
		"sent, and another call":        {"GET " + echoPath + host + sent + next, []int{200, 200}, true},
		"sent to a mount, and a call":   {"GET /docs" + host + sent + next, []int{200, 200}, true},
		"chunks sent, and another call": {"GET " + echoPath + host + chunks + "5\r\nhello\r\n0\r\n\r\n" + next, []int{200, 200}, true},
		"part of it, which is no call":  {"GET " + echoPath + host + unsent + next, []int{200}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := raw(t, addr, tc.send)
			if len(got) != len(tc.want) {
				t.Fatalf("%d answers, want %v: %+v", len(got), tc.want, got)
			}
			for i, a := range got {
				if a.status != tc.want[i] {
					t.Errorf("answer %d: %+v", i, a)
				}
			}
			if !tc.keep {
				closed(t, addr, tc.send)
			}
		})
	}
}

// closed fails unless the server ends the connection by itself.
func closed(t *testing.T, addr, send string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	var late net.Error
	if _, err := io.Copy(io.Discard, c); errors.As(err, &late) && late.Timeout() {
		t.Error("the connection is held")
	}
}
