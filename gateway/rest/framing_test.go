package rest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

// raw writes bytes to a server and reads the answers until it closes or is
// silent.
func raw(t testing.TB, addr, request string) (answers []answer) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	verb, _, _ := strings.Cut(request, " ")
	in := bufio.NewReader(c)
	for {
		if len(answers) > 0 { // Whoever pipelined has all answers soon.
			if err := c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
		}
		res, err := http.ReadResponse(in, &http.Request{Method: verb})
		if err != nil {
			return answers
		}
		if res.Header.Get("X-Request-Id") == "" { // net/http's own, which has no handler.
			b, err := io.ReadAll(res.Body)
			if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatal(err)
			}
			answers = append(answers, answer{status: res.StatusCode, header: res.Header, body: string(b), reason: "net/http"})
			continue
		}
		answers = append(answers, readAnswer(t, res))
	}
}

// TestFraming sends what no client library would, over a socket: each is
// answered once with what stands here, and nothing but what is named reaches
// the service.
func TestFraming(t *testing.T) {
	const host = "Host: x\r\n"
	get := func(target string) string { return "GET " + target + " HTTP/1.1\r\n" + host + "\r\n" }
	post := func(head, body string) string {
		return "POST " + echoPath + " HTTP/1.1\r\n" + host + head + "\r\n" + body
	}
	for name, tc := range map[string]struct {
		send   string
		status int
		reason string
	}{
		"origin form": {get(echoPath), 200, ""},
		"absolute form, whose authority means nothing":  {get("http://evil.example" + echoPath), 200, ""},
		"absolute form, another Host":                   {get("https://x:99" + echoPath), 200, ""},
		"absolute form without a path":                  {get("http://evil.example"), 404, "NO_SUCH_PATH"},
		"absolute form with a path that is refused":     {get("http://evil.example/test/v1/echo/%2e%2e"), 400, "PATH_REFUSED"},
		"absolute form of another scheme":               {get("ftp://evil.example" + echoPath), 400, "TARGET_REFUSED"},
		"absolute form with user information":           {get("http://a:b@evil.example" + echoPath), 400, "TARGET_REFUSED"},
		"an opaque URI":                                 {get("mailto:ada"), 400, "TARGET_REFUSED"},
		"authority form":                                {"CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400, "TARGET_REFUSED"},
		"CONNECT of a path":                             {"CONNECT " + echoPath + " HTTP/1.1\r\n" + host + "\r\n", 405, "METHOD_NOT_ALLOWED"},
		"asterisk form":                                 {"OPTIONS * HTTP/1.1\r\n" + host + "\r\n", 204, ""},
		"asterisk form of a GET":                        {get("*"), 400, "TARGET_REFUSED"},
		"a fragment":                                    {get(echoPath + "#x"), 400, "TARGET_REFUSED"},
		"a relative path":                               {get("test/v1/echo/e1"), 400, "net/http"},
		"a space in the target":                         {get("/test/v1/echo/e 1"), 400, "net/http"},
		"a tab in the target":                           {get("/test/v1/echo/e\t1"), 400, "net/http"},
		"a NUL in the target":                           {get("/test/v1/echo/e\x001"), 400, "net/http"},
		"encoded dots":                                  {get("/test/v1/echo/%2e%2E"), 400, "PATH_REFUSED"},
		"half encoded dots":                             {get("/test/v1/echo/.%2e/x"), 400, "PATH_REFUSED"},
		"dots":                                          {get("/test/v1/../v1/echo/e1"), 400, "PATH_REFUSED"},
		"a dot":                                         {get("/test/v1/./echo/e1"), 400, "PATH_REFUSED"},
		"dots with a parameter":                         {get("/test/v1/x/..;/echo/e1"), 400, "PATH_REFUSED"},
		"dots with a verb":                              {get("/test/v1/echo/..:kinds"), 400, "PATH_REFUSED"},
		"two slashes at the start":                      {get("//evil.example" + echoPath), 400, "PATH_REFUSED"},
		"two slashes inside":                            {get("/test//v1/echo/e1"), 400, "PATH_REFUSED"},
		"an encoded slash":                              {get("/test/v1%2fecho/e1"), 400, "PATH_REFUSED"},
		"an encoded slash beside what ought be encoded": {get("/test/v1%2fecho/e1{"), 400, "PATH_REFUSED"},
		"an encoded slash beside a raw byte":            {get("/test/v1%2fecho/\xc3\xa9"), 400, "PATH_REFUSED"},
		"encoded dots beside a quote":                   {get(`/test/v1/x/%2e%2e/echo/"`), 400, "PATH_REFUSED"},
		"a backslash":                                   {get(`/test\v1\echo/e1`), 400, "PATH_REFUSED"},
		"an encoded backslash":                          {get("/test/v1/echo/..%5c..%5cx"), 400, "PATH_REFUSED"},
		"an encoded NUL":                                {get("/test/v1/echo/e1%00.json"), 400, "PATH_REFUSED"},
		"an encoded line end":                           {get("/test/v1/echo/e1%0d%0aX-Injected:%201"), 400, "PATH_REFUSED"},
		"an encoded NEL":                                {get("/test/v1/echo/e1%c2%85"), 400, "PATH_REFUSED"},
		"overlong UTF-8":                                {get("/test/v1/echo/%c0%ae%c0%ae/x"), 400, "PATH_REFUSED"},
		"a surrogate":                                   {get("/test/v1/echo/%ed%a0%80"), 400, "PATH_REFUSED"},
		"raw bytes that are not UTF-8":                  {get("/test/v1/echo/\xff"), 400, "PATH_REFUSED"},
		"encoded twice is data":                         {get("/test/v1/echo/%252e%252e%252f"), 200, ""},
		"a semicolon in a segment is data":              {get("/test/v1/echo/e1;x=1"), 200, ""},
		"lower case method":                             {"get " + echoPath + " HTTP/1.1\r\n" + host + "\r\n", 405, "METHOD_NOT_ALLOWED"},
		"mixed case method":                             {"Get " + echoPath + " HTTP/1.1\r\n" + host + "\r\n", 405, "METHOD_NOT_ALLOWED"},
		"a method that is none":                         {"GE\x00T " + echoPath + " HTTP/1.1\r\n" + host + "\r\n", 400, "net/http"},
		"TRACE":                                         {"TRACE " + echoPath + " HTTP/1.1\r\n" + host + "\r\n", 405, "METHOD_NOT_ALLOWED"},
		"TRACK of nothing":                              {"TRACK /nowhere HTTP/1.1\r\n" + host + "\r\n", 404, "NO_SUCH_PATH"},
		"PRI in the middle of HTTP/1":                   {"PRI * HTTP/1.1\r\n" + host + "\r\n", 400, "TARGET_REFUSED"},
		"method override":                               {"POST /test/v1/names HTTP/1.1\r\n" + host + "X-HTTP-Method-Override: GET\r\nX-Method-Override: GET\r\nX-HTTP-Method: GET\r\nContent-Length: 0\r\n\r\n", 405, "METHOD_NOT_ALLOWED"},
		"no Host":                                       {"GET " + echoPath + " HTTP/1.1\r\n\r\n", 400, "net/http"},
		"two Hosts":                                     {"GET " + echoPath + " HTTP/1.1\r\n" + host + "Host: y\r\n\r\n", 400, "net/http"},
		"a Host that is none":                           {"GET " + echoPath + " HTTP/1.1\r\nHost: a,b\r\n\r\n", 400, "HOST_REFUSED"},
		"a space before the colon":                      {"GET " + echoPath + " HTTP/1.1\r\n" + host + "Content-Length : 5\r\n\r\n", 400, "net/http"},
		"a folded line":                                 {"GET " + echoPath + " HTTP/1.1\r\n" + host + "X-A: 1\r\n\tX-B: 2\r\n\r\n", 200, ""},
		"a folded first line":                           {"GET " + echoPath + " HTTP/1.1\r\n X-A: 1\r\n" + host + "\r\n", 400, "net/http"},
		"a NUL in a header":                             {"GET " + echoPath + " HTTP/1.1\r\n" + host + "X-A: a\x00b\r\n\r\n", 400, "net/http"},
		"HTTP/1.0":                                      {"GET " + echoPath + " HTTP/1.0\r\n\r\n", 200, ""},
		"HTTP/0.9":                                      {"GET " + echoPath + "\r\n\r\n", 400, "net/http"},
		"a version that is none":                        {"GET " + echoPath + " HTTP/3.7\r\n" + host + "\r\n", 505, "net/http"},
		"an expectation that is none":                   {post("Expect: miracles\r\nContent-Length: 2\r\n", "{}"), 417, "net/http"},

		"two lengths that differ":     {post("Content-Length: 2\r\nContent-Length: 3\r\n", "{}"), 400, "net/http"},
		"two lengths in one line":     {post("Content-Length: 2, 3\r\n", "{}"), 400, "net/http"},
		"a length with a sign":        {post("Content-Length: +2\r\n", "{}"), 400, "net/http"},
		"a negative length":           {post("Content-Length: -2\r\n", "{}"), 400, "net/http"},
		"a length in hexadecimal":     {post("Content-Length: 0x2\r\n", "{}"), 400, "net/http"},
		"chunked twice":               {post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 501, "net/http"},
		"chunked, twice in a line":    {post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), 501, "net/http"},
		"chunked and identity":        {post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), 501, "net/http"},
		"an encoding that is none":    {post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 501, "net/http"},
		"chunked with a tab":          {post("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"), 400, "net/http"},
		"gzip as transfer encoding":   {post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501, "net/http"},
		"a chunk size that is none":   {post("Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"), 400, "BODY_BROKEN"},
		"a chunk size with a sign":    {post("Transfer-Encoding: chunked\r\n", "+2\r\n{}\r\n0\r\n\r\n"), 400, "BODY_BROKEN"},
		"a chunk longer than it says": {post("Transfer-Encoding: chunked\r\n", "1\r\n{}\r\n0\r\n\r\n"), 400, "BODY_BROKEN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEdge(t, nil)
			got := raw(t, e.serve(t), tc.send)
			if len(got) != 1 || got[0].status != tc.status || got[0].reason != tc.reason {
				t.Errorf("want one %d %s, got %+v", tc.status, tc.reason, got)
			}
			if (tc.status == 200) != (e.conn.called() == 1) {
				t.Errorf("%d calls", e.conn.called())
			}
			if tc.status == 200 && e.conn.calls[0] != "/sluice.test.v1.TestService/Echo" {
				t.Errorf("reached %v", e.conn.calls)
			}
			checkLog(t, e.log.String())
		})
	}
}

// TestSmuggling: whatever a body's length is said to be, nobody's second
// request hides in the first one's body. Each case sends one, and a request
// behind it that would be the smuggled one.
func TestSmuggling(t *testing.T) {
	const hidden = "GET /test/v1/names HTTP/1.1\r\nHost: x\r\n\r\n"
	length := strconv.Itoa(len(hidden))
	post := func(head, body string) string {
		return "POST " + echoPath + " HTTP/1.1\r\nHost: x\r\n" + head + "\r\n" + body
	}
	const proxied = "X-Forwarded-For: 198.51.100.7\r\n"
	for name, tc := range map[string]struct {
		send  string
		names int // how often the hidden request is served
	}{
		// RFC 9112, 6.1: chunks override the length, and nothing is read behind them.
		"TE and CL":                {post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n") + hidden, 0},
		"TE and CL by a proxy":     {post(proxied+"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n") + hidden, 0},
		"CL and TE by a proxy":     {post(proxied+"Transfer-Encoding: chunked\r\nContent-Length: 100\r\n", "0\r\n\r\n") + hidden, 0},
		"TE that is not chunked":   {post("Content-Length: 2\r\nTransfer-Encoding: xchunked\r\n", "{}") + hidden, 0},
		"two CL":                   {post("Content-Length: 2\r\nContent-Length: 80\r\n", "{}") + hidden, 0},
		"TE in HTTP/1.0":           {"POST " + echoPath + " HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}" + hidden, 0},
		"TE alone in HTTP/1.0":     {"POST " + echoPath + " HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + hidden, 0},
		"a body of GET":            {"GET " + echoPath + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + "\r\n\r\n" + hidden, 0},
		"a body that is refused":   {"POST " + echoPath + " HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Length: " + length + "\r\n\r\n" + hidden, 0},
		"an upgrade":               {"GET " + echoPath + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: " + length + "\r\n\r\n" + hidden, 0},
		"chunks end in LF":         {post(proxied+"Transfer-Encoding: chunked\r\n", "2\n{}\n0\n\n") + hidden, 0},
		"an honest second one":     {post("Content-Length: 2\r\n", "{}") + hidden, 1},
		"one by a proxy":           {post(proxied+"Content-Length: 2\r\n", "{}") + hidden, 1},
		"the same CL twice":        {post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}") + hidden, 0},
		"a folded line":            {post("Content-Length: 2\r\nX-A: 1\r\n 2\r\n", "{}") + hidden, 0},
		"a line that ends in LF":   {post("Content-Length: 2\r\nX-A: 1\n", "{}") + hidden, 0},
		"chunks of a proxy":        {post(proxied+"Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n") + hidden, 1},
		"chunks of a plain caller": {post("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n") + hidden, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEdge(t, func(o *edgeOptions) {
				o.Client = func(peer netip.Addr, headers func(string) []string) netip.Addr {
					if v := headers("X-Forwarded-For"); len(v) > 0 {
						return netip.MustParseAddr(v[0])
					}
					return peer
				}
			})
			got := raw(t, e.serve(t), tc.send)
			names := 0
			for _, c := range e.conn.calls {
				if strings.HasSuffix(c, "/ListNames") {
					names++
				}
			}
			if names != tc.names || len(got) != 1+tc.names {
				t.Errorf("the hidden request was served %d times, want %d: %+v", names, tc.names, got)
			}
		})
	}
}

// TestHeaderBlock: net/http bounds the block of headers before any handler.
func TestHeaderBlock(t *testing.T) {
	e := newEdge(t, nil)
	got := raw(t, e.serve(t), "GET "+echoPath+" HTTP/1.1\r\nHost: x\r\nX-A: "+strings.Repeat("a", 70<<10)+"\r\n\r\n")
	if len(got) != 1 || got[0].status != 431 || e.conn.called() != 0 {
		t.Errorf("got %+v", got)
	}
}

// TestNothingOfTheCallerIsForwarded: no header becomes metadata, whatever its
// name.
func TestNothingOfTheCallerIsForwarded(t *testing.T) {
	e := newEdge(t, nil)
	head := ""
	for _, k := range []string{"X-User-Id", "X-Sluice-Assertion", "X-Sluice-Anything", "Grpc-Metadata-X-User-Id", "Grpc-Metadata-X-Sluice-Assertion", "grpc-metadata-authorization",
		"Grpc-Metadata-Cookie-Bin", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-User", "X-Real-Ip", "Forwarded", "Authorization", "Cookie", "Te", "Trailer",
		"X-Original-Url", "X-Rewrite-Url", "Grpc-Status", "Grpc-Timeout-X", "X_user_id", "Proxy-Authorization", "Via", "X-Remote-User"} {
		head += k + ": forged\r\n"
	}
	for _, send := range []string{
		"GET " + echoPath + " HTTP/1.1\r\nHost: evil\r\nConnection: authorization, x-sluice-assertion\r\n" + head + "\r\n",
		"POST " + echoPath + " HTTP/1.1\r\nHost: evil\r\nTrailer: X-User-Id\r\nTransfer-Encoding: chunked\r\n" + head + "\r\n2\r\n{}\r\n0\r\nX-User-Id: forged\r\nGrpc-Metadata-X-User-Id: forged\r\n\r\n",
		"POST /test/v1/up HTTP/1.1\r\nHost: evil\r\nContent-Length: 2\r\n" + head + "\r\n{}",
	} {
		if got := raw(t, e.serve(t), send); len(got) != 1 || got[0].status != 200 {
			t.Fatalf("got %+v", got)
		}
	}
	if len(e.conn.metadata) != 3 {
		t.Fatalf("%d calls", len(e.conn.metadata))
	}
	for _, md := range e.conn.metadata {
		if len(md) != 0 {
			t.Errorf("metadata %v", md)
		}
	}
	if strings.Contains(e.log.String(), "forged") {
		t.Errorf("log %s", e.log)
	}
}

// TestInjection: nothing a caller sends breaks a line of the log or of the
// answer's headers.
func TestInjection(t *testing.T) {
	e := newEdge(t, nil)
	addr := e.serve(t)
	for _, send := range []string{
		"GET " + echoPath + "?x=%0a%7b%22edge%22:1%7d HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /a\"},{\" HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /%22%7d%e2%80%a8 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET " + echoPath + " HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\"} {\"b\r\n\r\n",
		"GET " + echoPath + " HTTP/1.1\r\nHost: x\r\nX-Request-Id: \xe2\x80\xa8\r\n\r\n",
		"GET " + echoPath + " HTTP/1.1\r\nHost: x\r\nX-Request-Id: \"},{\"\r\n\r\n",
		"FOO\"} " + echoPath + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"FOO' " + echoPath + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET " + echoPath + " HTTP/1.1\r\nHost: x\r\nUser-Agent: \x1b[31m\r\nReferer: x\r\n\r\n",
	} {
		for _, a := range raw(t, addr, send) {
			for k := range a.header {
				if strings.ContainsAny(k, "\"{} ") {
					t.Errorf("%q: header %q", send, k)
				}
			}
		}
	}
	if n := checkLog(t, e.log.String()); n < 7 {
		t.Errorf("%d lines: %s", n, e.log)
	}
}

// checkLog says how many lines a log has, each of which must be one JSON object
// of an access log entry.
func checkLog(t testing.TB, log string) (n int) {
	t.Helper()
	lines := bufio.NewScanner(bytes.NewBufferString(log))
	for lines.Scan() {
		n++
		var entry struct{ Msg, Edge, Method, Route string }
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil || entry.Msg != "request" || entry.Edge != "rest" {
			t.Errorf("log line %q: %v", lines.Text(), err)
		}
		if entry.Route != "" && entry.Route != "/test/v1/echo/{id}" && entry.Route != "/test/v1/names" {
			t.Errorf("route %q", entry.Route)
		}
	}
	return n
}
