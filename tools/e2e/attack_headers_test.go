package e2e

import (
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// TestAttackHeaders: nobody becomes somebody else, or comes from elsewhere, by
// saying so in a header, over either edge.
func TestAttackHeaders(t *testing.T) {
	t.Parallel()
	tg := startTarget(t, nil, nil)
	tg.measure(t)
	f := forger{t, tg}
	// An assertion that nobody has signed whom the services trust.
	forged := f.sign(f.claims("iss", "sluice", "aud", userService, "scope", "admin"))
	for name, fields := range map[string][]string{
		"X-User-Id":                 {"X-User-Id", "ada", "X-User-ID", "ada", "X_User_Id", "ada"},
		"X-Sluice-Assertion":        {"X-Sluice-Assertion", forged},
		"two assertions":            {"X-Sluice-Assertion", forged, "x-sluice-assertion", forged},
		"Grpc-Metadata of both":     {"Grpc-Metadata-X-User-Id", "ada", "Grpc-Metadata-X-Sluice-Assertion", forged},
		"Grpc-Metadata of a token":  {"Grpc-Metadata-Authorization", "Bearer " + tg.ada},
		"Grpc-Metadata in binary":   {"Grpc-Metadata-X-Sluice-Assertion-Bin", "AAAA", "Grpcgateway-Authorization", "Bearer " + tg.ada},
		"a proxy's user":            {"X-Forwarded-User", "ada", "X-Remote-User", "ada", "X-Auth-Request-User", "ada", "X-Authenticated-Userid", "ada"},
		"a proxy's certificate":     {"X-Forwarded-Client-Cert", "URI=spiffe://shop.test/user/ada", "X-SSL-Client-Verify", "SUCCESS", "X-SSL-Client-S-DN", "CN=ada"},
		"a proxy's path":            {"X-Original-Url", "/v1/users/ada/profile", "X-Rewrite-Url", "/v1/users/ada/profile", "X-Forwarded-Prefix", "/v1/users/ada/profile"},
		"X-Forwarded-For":           {"X-Forwarded-For", "10.0.0.1", "X-Real-IP", "10.0.0.1", "True-Client-IP", "10.0.0.1", "CF-Connecting-IP", "10.0.0.1"},
		"Forwarded":                 {"Forwarded", `for=10.0.0.1;proto=https;host=internal;by=127.0.0.1`},
		"the connection's own":      {"X-Forwarded-For", "127.0.0.1", "X-Sluice-Internal", "1", "X-Internal", "true"},
		"a method in a header":      {"X-HTTP-Method-Override", "DELETE", "X-Method-Override", "DELETE", "X-HTTP-Method", "DELETE"},
		"gRPC's own":                {"Grpc-Status", "0", "Grpc-Message", "ok", "Grpc-Status-Details-Bin", "AAAA"},
		"tracing's":                 {"Traceparent", "00-" + strings.Repeat("0", 32) + "-" + strings.Repeat("0", 16) + "-ff", "Tracestate", strings.Repeat("a=b,", 500), "Baggage", "user=ada,scope=admin"},
		"traceparent of 1000 bytes": {"Traceparent", "00-" + strings.Repeat("f", 1000)},
		"traceparent that is none":  {"Traceparent", `"},{"user":"ada`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range []struct {
				as, token, reason string
				status            int
			}{
				{"nobody", "", "", 401},
				{"grace", tg.grace, "NOT_OWNER", 403},
				{"ada", tg.ada, "", 200},
			} {
				spoof(t, tg, fields, c.token, c.status, c.reason)
			}
		})
	}
	tg.serves(t)
	tg.bounded(t)
	for _, l := range tg.accessLog(t) {
		if l.Client != "127.0.0.1" {
			t.Errorf("the log takes a caller's word for its address: %+v", l)
		}
	}
	if strings.Contains(tg.stderr.String(), "10.0.0.1") {
		t.Error("an address of a header is in the log")
	}
}

// spoof asks for ada on both edges with the fields, which must change nothing.
func spoof(t *testing.T, tg *target, fields []string, token string, status int, reason string) {
	t.Helper()
	if token != "" {
		fields = append(bearer(token), fields...)
	}
	got := ask(t, tg.addr, "/v1/users/ada", fields)
	if got.status != status || got.reason != reason || strings.Contains(got.body, "ada@example.com") != (status == 200) {
		t.Errorf("over REST: %v; want %d %s", got, status, reason)
	}
	md := metadata.MD{}
	for i := 0; i+1 < len(fields); i += 2 {
		if k := strings.ToLower(fields[i]); !strings.HasPrefix(k, "grpc-") { // grpc-go sends none of these; TestAttackHTTP2 does.
			md.Append(k, fields[i+1])
		}
	}
	_, err := userv1.NewUserServiceClient(tg.conn).GetUser(metadata.NewOutgoingContext(bounded(t), md), &userv1.GetUserRequest{UserId: "ada"})
	code, was := verdictOf(err)
	if want := map[int]string{200: "", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}[status]; code != want || was != reason {
		t.Errorf("over gRPC: %v; want %s %s", err, want, reason)
	}
}

// TestAttackHopByHop: what Connection names is for the next hop, which is the
// gateway: it is as if it had not been sent.
func TestAttackHopByHop(t *testing.T) {
	t.Parallel()
	key, stored := apiKey(t, "--owner", "ada", "--scope", all)
	tg := startTarget(t, nil, object{"api_keys": object{"keys": []object{stored}}})
	for _, c := range []struct {
		name   string
		fields []string
		status int
	}{
		{"Authorization", append(bearer(tg.ada), "Connection", "Authorization"), 401},
		{"authorization, in a list", append(bearer(tg.ada), "Connection", "keep-alive , authorization"), 401},
		{"authorization, in a second line", append(bearer(tg.ada), "Connection", "keep-alive", "Connection", "authorization"), 401},
		{"X-API-Key", []string{"X-API-Key", key, "Connection", "X-API-Key"}, 401},
		{"X-Forwarded-For", append(bearer(tg.ada), "X-Forwarded-For", "10.0.0.1", "Connection", "X-Forwarded-For"), 200},
		{"X-Request-Id", append(bearer(tg.ada), "X-Request-Id", "mine", "Connection", "X-Request-Id"), 200},
		{"Host", append(bearer(tg.ada), "Connection", "Host, Content-Length, Transfer-Encoding"), 200},
		{"garbage", append(bearer(tg.ada), "Connection", ",,;=\"%"+strings.Repeat(",", 4000)), 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := ask(t, tg.addr, "/v1/users/ada", c.fields); got.status != c.status {
				t.Errorf("%v; want %d", got, c.status)
			}
		})
	}
	tg.serves(t)
}

var madeID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// TestAttackLog: nothing that a caller sends breaks a line of the access log, or
// of an answer's header.
func TestAttackLog(t *testing.T) {
	t.Parallel()
	tg := startTarget(t, nil, nil)
	tg.measure(t)
	long := strings.Repeat("x", 5000)
	for _, c := range []struct {
		name, id string
		want     string // the id that is answered: `made`, or `` for net/http's own 400
	}{
		{"plain", "a-1_b.c~", "a-1_b.c~"},
		{"quotes and braces", `a"},{"edge":"grpc`, "made or kept"},
		{"128 bytes", strings.Repeat("x", 128), strings.Repeat("x", 128)},
		{"129 bytes", strings.Repeat("x", 129), "made"},
		{"very long", long, "made"},
		{"an escape code", "\x1b[31mred", ""},
		{"a bare CR", "a\rX-Evil: 1", ""},
		{"a bell", "a\ab", ""},
		{"a NUL", "a\x00b", ""},
		{"a tab", "a\tb", "made"},
		{"a line separator", "a\u2028b", "made"},
		{"no UTF-8", "a\xff\xfeb", "made"},
		{"C1 control", "a\u009b31m", "made"},
		{"right to left", "a\u202eb", "made"},
		{"empty", "", "made"},
		{"a folded line", "a\r\n b", "made or kept"},
		{"a line end", "a\r\nX-Evil: 1", "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ask(t, tg.addr, "/v1/users/ada", append(bearer(tg.ada), "X-Request-Id", c.id))
			id := got.header.Get("X-Request-Id")
			if got.header.Get("X-Evil") != "" {
				t.Errorf("an injected header: %v", got.header)
			}
			switch {
			case c.want == "":
				if got.status != 400 || got.reason != "net/http" {
					t.Errorf("%v; want net/http's 400", got)
				}
				return
			case c.want == "made or kept":
				if !madeID.MatchString(id) && id != c.id && id != "a b" {
					t.Errorf("id %q", id)
				}
			case c.want == "made" && !madeID.MatchString(id), c.want != "made" && id != c.want:
				t.Errorf("id %q, want %s", id, c.want)
			}
			if got.status != 200 {
				t.Errorf("%v", got)
			}
			tg.logged(t, id, func(l accessLine) bool { return l.RequestID == id })
		})
	}
	for _, send := range []string{
		"GET /v1/users/ada?x=%0a%7b%22msg%22:%22request%22%7d HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /\"},{\"msg\":\"request HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /%0d%0a%1b%5b31m HTTP/1.1\r\nHost: x\r\n\r\n",
		"F\"O{O} /v1/users/ada HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/users/ada HTTP/1.1\r\nHost: \"},{\"x\r\n\r\n",
		"GET /v1/users/ada HTTP/1.1\r\nHost: x\r\nUser-Agent: \"}\u2028{\r\nReferer: \"}\r\nX-API-Key: \"}\r\nAuthorization: Bearer \"}\r\n\r\n",
	} {
		exchange(t, tg.addr, send, 1)
	}
	tg.serves(t)
	for _, l := range tg.accessLog(t) {
		if l.Route != "" && l.Route != "/v1/users/{user_id}" || strings.ContainsAny(l.Method, "\"{}") {
			t.Errorf("a caller's text is in the log: %+v", l)
		}
	}
	tg.bounded(t)
}
