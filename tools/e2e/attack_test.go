package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// What the process may have more than before once an attack is over, and after
// it at any time. Its caches, pools and the runtime's own are within.
const (
	moreGoroutines = 100
	moreMemory     = 160 << 20
)

// target is a gateway under attack: with demo data, tokens of its own issuers,
// and what it cost before.
type target struct {
	*gateway
	addr       string // of the HTTP edge
	client     *http.Client
	login      *issuer
	partner    *issuer // another issuer that it trusts, for another audience
	ada, grace string  // tokens

	goroutines, memory float64
}

const partnerName, partnerAudience = "https://partner.test/", "shop-partners"

// startTarget starts a gateway; config is beside what is said here, and auth is
// beside the issuers.
func startTarget(t *testing.T, config, auth object) *target {
	t.Helper()
	a := &target{login: newIssuer(t), partner: newIssuer(t)}
	section := object{"issuers": []object{
		{"issuer": issuerName, "audiences": []string{audience}, "public_keys": object{"files": []string{a.login.file}}},
		{"issuer": partnerName, "audiences": []string{partnerAudience}, "public_keys": object{"files": []string{a.partner.file}}},
	}}
	maps.Copy(section, auth)
	whole := object{"auth": section}
	maps.Copy(whole, config)
	a.gateway, a.client = startGateway(t, setup{config: whole}), &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() { a.client.CloseIdleConnections() })
	_, a.addr, _ = strings.Cut(a.url, "://")
	a.ada, a.grace = a.login.mint(t, "ada", all), a.login.mint(t, "grace", all)
	return a
}

// measure remembers what the process costs. Before that it has served a request
// on each edge, so that what is made once is there.
func (a *target) measure(t *testing.T) {
	t.Helper()
	a.serves(t)
	a.goroutines, a.memory = a.metric(t, "go_goroutines"), a.metric(t, "process_resident_memory_bytes")
}

// bounded fails unless the process has come back to about what it was, with the
// attackers' connections gone or not.
func (a *target) bounded(t *testing.T) {
	t.Helper()
	eventually(t, patience, func() error {
		n, m := a.metric(t, "go_goroutines"), a.metric(t, "process_resident_memory_bytes")
		if n > a.goroutines+moreGoroutines || m > a.memory+moreMemory {
			return fmt.Errorf("%.0f goroutines, %.0f before; %.0f MiB, %.0f before", n, a.goroutines, m/(1<<20), a.memory/(1<<20))
		}
		return nil
	})
}

// metric is the sum of a metric's series, of those only whose line holds all of
// having.
func (g *gateway) metric(t *testing.T, name string, having ...string) (sum float64) {
	t.Helper()
	for line := range strings.Lines(string(g.atAdmin(t, "/metrics").body)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || (rest[0] != ' ' && rest[0] != '{') {
			continue
		}
		for _, h := range having {
			ok = ok && strings.Contains(rest, h)
		}
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		sum += v
	}
	return sum
}

// serves fails unless an ordinary caller is served on both edges.
func (a *target) serves(t *testing.T) {
	t.Helper()
	if err := a.served(t); err != nil {
		t.Error(err)
	}
}

// served asks both edges, on connections that go on from one question to the
// next.
func (a *target) served(t *testing.T) error {
	t.Helper()
	if err := a.servedHTTP(bounded(t)); err != nil {
		return fmt.Errorf("an ordinary caller over REST: %w", err)
	}
	u, err := userv1.NewUserServiceClient(a.conn).GetUser(as(t, a.ada), &userv1.GetUserRequest{UserId: "ada"})
	if err != nil || u.GetUserId() != "ada" {
		return fmt.Errorf("an ordinary caller over gRPC: %v, %w", u, err)
	}
	return nil
}

func (a *target) servedHTTP(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, "GET", a.url+"/v1/users/ada", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+a.ada)
	res, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != 200 || !strings.Contains(string(b), `"userId":"ada"`)) {
		err = fmt.Errorf("%d %s", res.StatusCode, b)
	}
	return err
}

// trusting is a client with a TLS configuration.
func trusting(t *testing.T, c *tls.Config) *http.Client {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// pool reads certificates.
func pool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(b) {
		t.Fatalf("%s holds no certificate", file)
	}
	return p
}

// verdict is how a request ended: an HTTP status, the code and the reason of its
// problem. What net/http answers by itself has the reason "net/http", and a
// connection that ends without an answer is the zero verdict.
type verdict struct {
	status       int
	code, reason string
	header       http.Header
	body         string
}

func (v verdict) String() string {
	return fmt.Sprintf("%d %s %s: %.300q", v.status, v.code, v.reason, v.body)
}

// exchange writes bytes to a connection of its own and reads answers until there
// are n, or the other side closes.
func exchange(t *testing.T, addr, send string, n int) []verdict {
	t.Helper()
	c, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return talk(t, c, send, n)
}

// talk is exchange on a connection that is there.
func talk(t *testing.T, c net.Conn, send string, n int) (out []verdict) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	// The server may answer and close before it has read all.
	go func() { _, _ = io.WriteString(c, send) }()
	in := bufio.NewReader(c)
	for len(out) < n {
		res, err := http.ReadResponse(in, &http.Request{Method: verbOf(send)})
		if err != nil {
			return out
		}
		out = append(out, judge(t, res))
	}
	return out
}

func verbOf(send string) string {
	verb, _, _ := strings.Cut(send, " ")
	return verb
}

// judge reads an answer. Whatever refuses must do so in the one shape.
func judge(t *testing.T, res *http.Response) verdict {
	t.Helper()
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	// net/http says 400 and leaves what it has not read: the kernel resets the
	// connection behind the answer.
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	v := verdict{status: res.StatusCode, header: res.Header, body: string(b)}
	switch {
	case res.Header.Get("X-Request-Id") == "":
		v.reason = "net/http"
	case v.status >= 400:
		if ct := res.Header.Get("Content-Type"); ct != "application/problem+json" && len(b) > 0 {
			t.Errorf("%d with content type %q: %s", v.status, ct, b)
		}
		v.code, v.reason = problem(t, b)
	}
	return v
}

// problem is the code and the reason of a problem document.
func problem(t *testing.T, b []byte) (code, reason string) {
	t.Helper()
	if len(b) == 0 { // HEAD
		return "", ""
	}
	var p struct {
		Code    string
		Details []struct{ Reason string }
	}
	if err := json.Unmarshal(b, &p); err != nil || p.Code == "" {
		t.Errorf("no problem: %s", b)
	}
	for _, d := range p.Details {
		if d.Reason != "" {
			reason = d.Reason
		}
	}
	return p.Code, reason
}

// verdictOf is problem for the gRPC edge; nothing for success.
func verdictOf(err error) (name, reason string) {
	if err == nil {
		return "", ""
	}
	st := status.Convert(err)
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			reason = info.GetReason()
		}
	}
	return code.Code_name[int32(st.Code())], reason
}

// accessLine is what the tests read of a line of the access log.
type accessLine struct {
	Msg, Edge, Method, Route, Client, Principal string
	RequestID                                   string `json:"request_id"`
	Status                                      string
}

// accessLog is the access log so far. Each line that the process has written must
// be one JSON object.
func (g *gateway) accessLog(t *testing.T) (lines []accessLine) {
	t.Helper()
	whole := g.stderr.String()
	whole = whole[:strings.LastIndexByte(whole, '\n')+1] // The last may be in the writing.
	for raw := range strings.Lines(whole) {
		var l accessLine
		if err := json.Unmarshal([]byte(raw), &l); err != nil {
			t.Errorf("log line %q: %v", raw, err)
		}
		if strings.ContainsFunc(strings.TrimSuffix(raw, "\n"), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("log line with control characters: %q", raw)
		}
		if l.Msg == "request" {
			lines = append(lines, l)
		}
	}
	return lines
}

// logged waits for a line of the access log.
func (g *gateway) logged(t *testing.T, which string, ok func(accessLine) bool) (found accessLine) {
	t.Helper()
	eventually(t, patience, func() error {
		for _, l := range g.accessLog(t) {
			if ok(l) {
				found = l
				return nil
			}
		}
		return errors.New("the access log has no line of " + which)
	})
	return found
}
