package gateway_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/shop"
	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// arrival is a request as a service got it: nothing of it has been decoded.
type arrival struct {
	method, target string
	lines          []line
	body           string
}

type line struct{ name, value string }

func (a *arrival) values(name string) (out []string) {
	for _, l := range a.lines {
		if l.name == name {
			out = append(out, l.value)
		}
	}
	return out
}

// recorder is a service that reads its socket itself and answers 200.
type recorder struct {
	addr string
	got  chan arrival
}

const recorded = "HTTP/1.1 200 OK\r\nX-Recorded: 1\r\nContent-Length: 0\r\n\r\n"

func newRecorder(t testing.TB) *recorder {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	r := &recorder{addr: l.Addr().String(), got: make(chan arrival, 16)}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(c)
		}
	}()
	return r
}

func (r *recorder) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for {
		a, err := readArrival(in)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			a = arrival{target: "unreadable: " + err.Error()}
		}
		r.got <- a
		if _, err := io.WriteString(c, recorded); err != nil || a.method == "" {
			return
		}
	}
}

// readArrival reads a request by RFC 9112 and no more: two lengths, or a line that is no
// header, are errors.
func readArrival(in *bufio.Reader) (a arrival, err error) {
	first, err := in.ReadString('\n')
	if err != nil {
		return a, err
	}
	part := strings.Split(strings.TrimSuffix(first, "\r\n"), " ")
	if len(part) != 3 || part[2] != "HTTP/1.1" {
		return a, fmt.Errorf("request line %q", first)
	}
	length, chunked := -1, false
	for {
		l, err := in.ReadString('\n')
		if err != nil {
			return a, err
		}
		if l = strings.TrimSuffix(l, "\r\n"); l == "" {
			break
		}
		name, value, ok := strings.Cut(l, ": ")
		if !ok {
			return a, fmt.Errorf("header line %q", l)
		}
		a.lines = append(a.lines, line{name, value})
		switch {
		case name == "Content-Length" && length < 0 && !chunked:
			if length, err = strconv.Atoi(value); err != nil {
				return a, err
			}
		case name == "Transfer-Encoding" && value == "chunked" && length < 0 && !chunked:
			chunked = true
		case name == "Content-Length", name == "Transfer-Encoding":
			return a, fmt.Errorf("a second length: %q", l)
		}
	}
	a.method, a.target = part[0], part[1]
	if !chunked {
		b := make([]byte, max(length, 0))
		_, err = io.ReadFull(in, b)
		a.body = string(b)
		return a, err
	}
	for {
		l, err := in.ReadString('\n')
		if err != nil {
			return a, err
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(l, "\r\n"), 16, 32)
		if err != nil {
			return a, err
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(in, b); err != nil || string(b[n:]) != "\r\n" {
			return a, fmt.Errorf("chunk: %w", err)
		}
		if n == 0 {
			return a, nil
		}
		a.body += string(b[:n])
	}
}

// unchanged is a gateway before a recorder.
type unchanged struct {
	*gatewaytest.Gateway
	back *recorder
	conn net.Conn
	in   *bufio.Reader
}

func startUnchanged(t testing.TB, edit func(*configv1.Config)) *unchanged {
	t.Helper()
	u := &unchanged{back: newRecorder(t)}
	u.Gateway = gatewaytest.Start(t, func(c *configv1.Config) {
		c.HttpUpstreams = map[string]*configv1.HttpUpstream{"up": {Target: u.back.addr}}
		c.HttpRoutes = []*configv1.HttpRoute{
			plainRoute("strip", &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/strip"}}, &configv1.PathRewrite{Prefix: "/"}),
			plainRoute("to", &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/from"}}, &configv1.PathRewrite{Prefix: "/to/b%20c"}),
			plainRoute("swap", &configv1.HttpMatch{Path: &configv1.HttpMatch_Regex{Regex: "/swap/([^/]*)/(?P<rest>.*)"}}, &configv1.PathRewrite{Regex: "/${rest}/$1/x(y)"}),
			plainRoute("all", &configv1.HttpMatch{Path: &configv1.HttpMatch_Prefix{Prefix: "/"}}, nil),
		}
		if edit != nil {
			edit(c)
		}
	}, gateway.WithServices(shop.Services()...))
	t.Cleanup(func() {
		if u.conn != nil {
			_ = u.conn.Close()
		}
	})
	return u
}

func plainRoute(name string, m *configv1.HttpMatch, rewrite *configv1.PathRewrite) *configv1.HttpRoute {
	return &configv1.HttpRoute{Name: name, Upstream: "up", Match: m, Rewrite: rewrite, Require: &policyv1.Require{Public: true},
		Deadline: durationpb.New(time.Minute), StreamIdle: durationpb.New(time.Minute), MaxRequestBytes: 1 << 20}
}

// send writes bytes to the edge, and returns the answer and what reached the service: nil
// for nothing.
func (u *unchanged) send(t testing.TB, method, request string) (status int, body string, got *arrival) {
	t.Helper()
	used := u.conn != nil
	if !used {
		var err error
		if u.conn, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(u.URL, "http://")); err != nil {
			t.Fatal(err)
		}
		u.in = bufio.NewReader(u.conn)
	}
	if err := u.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(u.conn, request) // The edge may have closed before it has read all; the answer tells.
	for {
		res, err := http.ReadResponse(u.in, &http.Request{Method: method})
		if err != nil {
			_ = u.conn.Close()
			u.conn = nil
			if used && len(u.back.got) == 0 { // The edge closes a connection whose last body it did not read.
				return u.send(t, method, request)
			}
			t.Fatalf("%q: no answer: %v", request, err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatalf("%q: %v", request, err)
		}
		if res.StatusCode == http.StatusContinue {
			continue
		}
		if res.Close {
			_ = u.conn.Close()
			u.conn = nil
		}
		recorded := res.Header.Get("X-Recorded") != ""
		select {
		case a := <-u.back.got:
			got = &a
		default:
		}
		if recorded != (got != nil) || len(u.back.got) > 0 {
			t.Fatalf("%q: answered %d, and %v reached the service, and %d more", request, res.StatusCode, got, len(u.back.got))
		}
		return res.StatusCode, string(b), got
	}
}

// TestTargetIsUnchanged: a service gets the path and the query byte for byte, but for
// what a rewrite replaces; or the caller is told why not.
func TestTargetIsUnchanged(t *testing.T) {
	u := startUnchanged(t, nil)
	all256 := ""
	for c := 0x21; c < 0x100; c++ {
		if c != 0x7f && c != '#' {
			all256 += string([]byte{byte(c)})
		}
	}
	for _, tc := range []struct{ sent, want string }{
		// Queries.
		{"/a?a=1;b=2", ""}, {"/a?q=100%&x=1", ""}, {"/a?%zz", ""}, {"/a?a=%", ""}, {"/a?", ""}, {"/a??", ""}, {"/a?=", ""}, {"/a?&&a&=b&", ""},
		{"/a?q=a+b%20c%2B", ""}, {"/a?a=1&a=2&A=3&a[]=4", ""}, {"/a?x=1?y=2/../z", ""}, {"/a?\xff\xfe=\x80", ""}, {"/a?é=%C3%A9&%e9", ""},
		{"/a?q=\"<>\\^`{|}'()*,:@!$", ""}, {"/a?" + all256, ""}, {"/?q", ""}, {"/a?%00%0d%0a%23", ""}, {"/a?a;b", ""}, {"/a?;", ""},
		// Paths.
		{"/p/Products('1')", ""}, {"/p/%28%271%27%29", ""}, {"/p/a%2Bb+c", ""}, {"/p/%61%7e~", ""}, {"/p/%C3%A9é%c3%a9", ""}, {"/p/a%20b", ""},
		{"/p/a:b@c,d=e!$&*", ""}, {"/p/\"<>^`{|}[]", ""}, {"/p/%3F%23%25", ""}, {"/p/100%25", ""}, {"/p/a/", ""}, {"/", ""}, {"/p/...", ""}, {"/p/%2a*", ""}, {"/%70/x?%70", ""},
		// Absolute form: the authority is not part of what is sent.
		{"http://elsewhere/p/%2B?a=1;b", "/p/%2B?a=1;b"}, {"http://elsewhere", "/"}, {"http://elsewhere?x=1;", "/?x=1;"},
		// Rewrites.
		{"/strip/Products('1')%2B?a;b", "/Products('1')%2B?a;b"}, {"/strip", "/"}, {"/strip/", "/"}, {"/strip?", "/?"}, {"/%73tri%70/%61('", "/%61('"},
		{"/from/%2B('1')?%", "/to/b%20c/%2B('1')?%"}, {"/fro%6d", "/to/b%20c"},
		{"/swap/%2B'/c%61(/d?x;", "/c%61(/d/%2B'/x(y)?x;"}, {"/%73wap/é/%C3%A9", "/%C3%A9/é/x(y)"},
	} {
		want := tc.want
		if want == "" {
			want = tc.sent
		}
		for _, method := range []string{"GET", "POST"} {
			status, body, got := u.send(t, method, method+" "+tc.sent+" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
			if got == nil || got.target != want || got.method != method {
				t.Errorf("%s %q: %d %s, arrived %+v, want %q", method, tc.sent, status, body, got, want)
			}
		}
	}
}

// TestTargetIsRefused: what two readers could take for different paths reaches nobody,
// and the answer says what it was.
func TestTargetIsRefused(t *testing.T) {
	u := startUnchanged(t, nil)
	for sent, want := range map[string]string{
		"/a;b": "semicolon", "/a%3bb": "semicolon", "/a%252e": "%25", "/a%2525": "%25", "/a%2fb": "encoded slash", "/a/../b": "dot segment", "/a/%2e%2e/b": "dot segment",
		"/a//b": "empty segment", "/a%5cb": "backslash", "/a%00": "control", "/a?b#c": "target", "/a#": "target", "/\xff": "UTF-8", "/a%ff": "UTF-8",
		"/swap/./..": "dot segment", "/swap/%2e%2e/a": "dot segment", "/strip/..": "dot segment", "/strip/a;b?x": "semicolon",
	} {
		status, body, got := u.send(t, "GET", "GET "+sent+" HTTP/1.1\r\nHost: x\r\n\r\n")
		if status != http.StatusBadRequest || got != nil || !strings.Contains(body, want) {
			t.Errorf("%q: %d %s, arrived %+v, want %q", sent, status, body, got, want)
		}
	}
	// What net/http refuses before any handler sees it.
	for _, sent := range []string{"/%", "/%zz", "/a\x01", "/a?\x7f"} {
		status, body, got := u.send(t, "GET", "GET "+sent+" HTTP/1.1\r\nHost: x\r\n\r\n")
		if status != http.StatusBadRequest || got != nil {
			t.Errorf("%q: %d %s, arrived %+v", sent, status, body, got)
		}
	}
}

// documentedDrops reads docs/http.md: which of a caller's headers a service does not get.
// Prefixes end in a star there.
func documentedDrops(t testing.TB) (names, prefixes []string) {
	t.Helper()
	text, err := os.ReadFile("../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "It does not get the caller's\n\n")
	list, _, _ := strings.Cut(rest, "\n\n")
	for i, name := range strings.Split(list, "`") {
		if i%2 == 0 {
			continue
		}
		if prefix, ok := strings.CutSuffix(name, "*"); ok {
			prefixes = append(prefixes, textproto.CanonicalMIMEHeaderKey(prefix))
		} else {
			names = append(names, textproto.CanonicalMIMEHeaderKey(name))
		}
	}
	if !ok || len(names) < 20 || len(prefixes) < 2 {
		t.Fatalf("docs/http.md lists %q, %q", names, prefixes)
	}
	return names, prefixes
}

// gatewaysOwn are what a service gets beside the caller's.
var gatewaysOwn = []string{"Host", "X-Sluice-Assertion", "X-Request-Id", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded",
	"Traceparent", "Content-Length", "Transfer-Encoding"}

// rules are those of docs/http.md, said over.
type rules struct{ names, prefixes []string }

// passes says whether the service gets a header of the caller's.
func (r *rules) passes(name string, sent []line) bool {
	for _, l := range sent {
		if l.name == "Connection" && slices.ContainsFunc(strings.Split(l.value, ","), func(s string) bool {
			return textproto.CanonicalMIMEHeaderKey(strings.Trim(s, " \t")) == name
		}) {
			return false
		}
	}
	return !slices.Contains(r.names, name) && !strings.Contains(name, "_") &&
		!slices.ContainsFunc(r.prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// check compares the headers that arrived with those that were sent.
func (r *rules) check(sent []line, got *arrival) error {
	want := map[string][]string{}
	for _, l := range sent {
		if r.passes(l.name, sent) && !slices.Contains(gatewaysOwn, l.name) {
			want[l.name] = append(want[l.name], l.value)
		}
	}
	if slices.Equal(want["User-Agent"], []string{""}) {
		delete(want, "User-Agent")
	}
	first := slices.IndexFunc(sent, func(l line) bool { return l.name == "Pragma" })
	stated := slices.ContainsFunc(sent, func(l line) bool { return l.name == "Cache-Control" })
	if first >= 0 && sent[first].value == "no-cache" && !stated && r.passes("Cache-Control", sent) {
		want["Cache-Control"] = []string{"no-cache"}
	}
	for _, l := range sent {
		if te := strings.FieldsFunc(l.value, func(r rune) bool { return strings.ContainsRune(", \t", r) }); l.name == "Te" && r.teOf(sent) && slices.ContainsFunc(te, func(s string) bool { return strings.EqualFold(s, "trailers") }) {
			want["Te"] = []string{"trailers"}
		}
	}
	for name, values := range want {
		if have := got.values(name); !slices.Equal(have, values) {
			return fmt.Errorf("%s arrived as %q, want %q", name, have, values)
		}
	}
	for _, l := range got.lines {
		if want[l.name] == nil && !slices.Contains(gatewaysOwn, l.name) {
			return fmt.Errorf("%s: %q arrived, which no rule lets pass", l.name, l.value)
		}
	}
	for _, name := range gatewaysOwn {
		if n := len(got.values(name)); n > 1 {
			return fmt.Errorf("%s arrived %d times", name, n)
		}
	}
	return nil
}

func (r *rules) teOf(sent []line) bool {
	return (&rules{}).passes("Te", sent)
}

// TestHeadersAreUnchanged: a service gets every line of a caller's headers but for those
// that docs/http.md names.
func TestHeadersAreUnchanged(t *testing.T) {
	u := startUnchanged(t, nil)
	r := &rules{}
	r.names, r.prefixes = documentedDrops(t)
	sent := []line{
		{"Accept", "a"}, {"Accept", ""}, {"Accept", "b;q=0.1, c"}, {"Accept", "a"}, {"X-Empty", ""}, {"X-High", "é\xff"}, {"X-Tab", "a\tb"}, {"X-Quoted", `"a, b"; \"`},
		{"Cookie", "a=1; b=\"2\""}, {"Cookie", "a=3"}, {"Cookie", ";;"}, {"Content-Type", "A/b; Charset=\"X\""}, {"Content-Encoding", "x"}, {"Range", "bytes=0-1"}, {"If-None-Match", "*"},
		{"Accept-Encoding", "zz"}, {"User-Agent", "me/1"}, {"Origin", "null"}, {"Referer", "x y"}, {"Max-Forwards", "0"}, {"Pragma", "no-cache"}, {"Via", "1.0 a"}, {"Date", "never"},
		{"X-!#$%&'*+.^`|~", "odd"}, {"Baggage", "a=b"}, {"Content-Md5", "x"}, {"From", "ada"}, {"Warning", "199"}, {"Sec-Fetch-Mode", "cors"}, {"Priority", "u=1"}, {"Early-Data", "1"}, {"Te", "gzip, trailers"},
	}
	for _, name := range r.names {
		if name != "Authorization" && name != "Expect" && name != "X-Api-Key" && name != "Te" && name != "Connection" && name != "Transfer-Encoding" {
			sent = append(sent, line{name, "evil"})
		}
	}
	for _, p := range r.prefixes {
		sent = append(sent, line{textproto.CanonicalMIMEHeaderKey(p + "anything"), "evil"})
	}
	sent = append(sent, line{"X_user_id", "evil"}, line{"X-Named", "dropped"}, line{"Connection", "x-named , Keep-Alive"})
	var head strings.Builder
	for _, l := range sent {
		fmt.Fprintf(&head, "%s: %s\r\n", strings.ToLower(l.name), l.value)
	}
	for _, request := range []string{
		"GET /a HTTP/1.1\r\nHost: x\r\n" + head.String() + "\r\n",
		"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + head.String() + "\r\n3;ext=1\r\na\x00b\r\n0\r\nX-Trailer: evil\r\n\r\n",
		"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n" + head.String() + "\r\na\x00b",
		"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n" + head.String() + "\r\na\x00b",
	} {
		method, _, _ := strings.Cut(request, " ")
		status, body, got := u.send(t, method, request)
		if got == nil {
			t.Errorf("%d %s to %q", status, body, request)
			continue
		}
		if err := r.check(sent, got); err != nil {
			t.Errorf("%v, of %q", err, request)
		}
		if strings.Contains(request, "a\x00b") && got.body != "a\x00b" {
			t.Errorf("%q: body %q", request, got.body)
		}
	}
}
