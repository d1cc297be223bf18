package gateway_test

import (
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
)

// FuzzUnchanged writes requests to the edge and compares each with what its service got,
// byte for byte: method, path, query, body, and the headers by the rules of docs/http.md.
// A request that is refused must reach nobody.
func FuzzUnchanged(f *testing.F) {
	for _, s := range []struct{ method, path, query, headers, body string }{
		{"GET", "/p/Products('1')", "?a=1;b=2", "X-A: 1\nx-a:  2 \nAccept:", ""},
		{"POST", "/p/%2B+%61", "?q=100%&x=1", "Cookie: a=1; b\nCookie: c\nTE: trailers\nConnection: X-B\nX-B: 1", "\x00body"},
		{"PURGE", "/strip/%28%29", "?", "User-Agent: a\nUser-Agent: b", "x"},
		{"HEAD", "/%73trip/é", "?\xff&&=", "X_User: 1\nX-User-Id: evil\nX-High: \xff", ""},
		{"PATCH", "/a;b", "??", "Expect: 100-continue\nX-Fold: a\n b\n\tc", "{}"},
		{"OPTIONS", "/", "#", "Upgrade: h2c\nHTTP2-Settings: x\nAuthorization: Bearer x", ""},
		{"DELETE", "/p/%252e", "", "Content-Type: a\nContent-Type: b\nRange: bytes=0-", "chunked"},
		{"get", "http://x/a", "?a", "Forwarded: for=x\nKeep-Alive: 1\nX-Sluice-A: 1\nx-forwarded-y: 2", ""},
	} {
		f.Add(s.method, s.path, s.query, s.headers, s.body, true)
		f.Add(s.method, s.path, s.query, s.headers, s.body, false)
	}
	u := startUnchanged(f, nil)
	r := &rules{}
	r.names, r.prefixes = documentedDrops(f)
	f.Fuzz(func(t *testing.T, method, path, query, headers, body string, chunked bool) {
		u.compare(t, r, method, path, query, headers, body, chunked)
	})
}

// compare sends a request, if the parts make one, and compares what arrived.
func (u *unchanged) compare(t testing.TB, r *rules, method, path, query, headers, body string, chunked bool) {
	t.Helper()
	if method == "" || strings.ContainsAny(method+path+query, " \r\n") || query != "" && query[0] != '?' || strings.Contains(path, "?") || len(path)+len(query)+len(headers) > 16<<10 {
		return // No request of this form.
	}
	head, sent, ok := fuzzedHeaders(headers)
	if !ok {
		return
	}
	request := method + " " + path + query + " HTTP/1.1\r\nHost: x\r\n" + head
	switch {
	case chunked && body != "":
		request += fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	case body != "":
		request += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	default:
		request += "\r\n"
	}
	status, answer, got := u.send(t, method, request)
	if got == nil {
		if method == http.MethodOptions && status == http.StatusNoContent {
			return // What an RPC's path takes, or all of the gateway (`*`).
		}
		if status < 400 || status > 499 && status != http.StatusNotImplemented {
			t.Fatalf("%q: answered %d %s, but reached nobody", request, status, answer)
		}
		return
	}
	if swapped, err := url.PathUnescape(path); err == nil && strings.Contains(swapped, "/swap/") {
		return // By groups: FuzzRewrite of gateway/proxy.
	}
	if want := sentTarget(path) + query; got.method != method || got.target != want || got.body != body {
		t.Errorf("%q: arrived %q %q with the body %q, want %q", request, got.method, got.target, got.body, want)
	}
	if err := r.check(sent, got); err != nil {
		t.Errorf("%v, of %q", err, request)
	}
}

// fuzzedHeaders makes header lines of the lines of a text. What frames the message is the
// caller's to write.
func fuzzedHeaders(text string) (head string, sent []line, ok bool) {
	var b strings.Builder
	for l := range strings.SplitSeq(text, "\n") {
		if l == "" {
			continue
		}
		if strings.Contains(l, "\r") {
			return "", nil, false
		}
		b.WriteString(l + "\r\n")
		if l[0] == ' ' || l[0] == '\t' { // A folded line is joined by a space (RFC 9112, 5.2).
			if len(sent) == 0 {
				return "", nil, false
			}
			last := &sent[len(sent)-1]
			last.value = strings.Trim(last.value+" "+strings.Trim(l, " \t"), " \t")
			continue
		}
		name, value, _ := strings.Cut(l, ":")
		name = textproto.CanonicalMIMEHeaderKey(name)
		switch strings.TrimRight(name, " \t") {
		case "Host", "Content-Length", "Transfer-Encoding":
			return "", nil, false
		}
		sent = append(sent, line{name, strings.Trim(value, " \t")})
	}
	return b.String(), sent, true
}

// sentTarget is what the routes of startUnchanged send for a path without rewriting
// groups: as it came, but for the prefix that a rewrite replaces.
func sentTarget(path string) string {
	if _, after, ok := strings.Cut(path, "://"); ok && path[0] != '/' { // Absolute form.
		_, path, _ = strings.Cut(after, "/")
		path = "/" + path
	}
	for from, to := range map[string]string{"/strip": "", "/from": "/to/b%20c"} {
		for i := range len(path) + 1 {
			if decoded, err := url.PathUnescape(path[:i]); err == nil && decoded == from && (i == len(path) || path[i] == '/') {
				if path = to + path[i:]; path == "" {
					path = "/"
				}
				return path
			}
		}
	}
	return path
}
