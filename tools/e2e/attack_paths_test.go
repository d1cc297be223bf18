package e2e

import (
	"strings"
	"testing"
)

// TestAttackPaths: there is one spelling of a path for routing and policy, and
// what could be read in two ways is refused. Each is asked by ada, to whom it
// may be her own, and by grace, to whom it never is.
func TestAttackPaths(t *testing.T) {
	t.Parallel()
	tg := startTarget(t, nil, nil)
	tg.measure(t)
	const refused = "PATH_REFUSED"
	for _, c := range []struct {
		name, target string
		status       int // to ada
		reason       string
	}{
		{"plain", "/v1/users/ada", 200, ""},
		{"an escaped letter", "/v1/%75sers/ada", 200, ""},
		{"escaped letters of the owner", "/v1/users/%61d%61", 200, ""},
		{"upper case", "/V1/users/ada", 404, "NO_SUCH_PATH"},
		{"upper case of the owner", "/v1/users/ADA", 403, "NOT_OWNER"},
		{"grace by an encoded way", "/v1/users/ada%2f..%2fgrace", 400, refused},
		{"grace by an encoded way in upper case", "/v1/users/ada%2F%2E%2E%2Fgrace", 400, refused},
		{"grace by dots", "/v1/users/ada/../grace", 400, refused},
		{"grace by encoded dots", "/v1/users/ada/%2e%2e/grace", 400, refused},
		{"grace by half encoded dots", "/v1/users/ada/.%2e/grace", 400, refused},
		{"grace by dots with a parameter", "/v1/users/ada/..;x=1/grace", 400, refused},
		{"grace by backslashes", `/v1/users/ada\..\grace`, 400, refused},
		{"grace by encoded backslashes", "/v1/users/ada%5c..%5cgrace", 400, refused},
		{"grace behind a NUL", "/v1/users/ada%00grace", 400, refused},
		{"grace encoded twice", "/v1/users/ada%252f..%252fgrace", 403, "NOT_OWNER"},
		{"grace behind a semicolon", "/v1/users/ada;grace", 403, "NOT_OWNER"},
		{"grace in the query", "/v1/users/ada?user_id=grace", 400, ""},
		{"grace in the query, camel case", "/v1/users/ada?userId=grace", 400, ""},
		{"a dot", "/v1/users/./ada", 400, refused},
		{"an encoded dot", "/v1/users/%2e/ada", 400, refused},
		{"two slashes at the start", "//v1/users/ada", 400, refused},
		{"an authority at the start", "//evil.test/v1/users/ada", 400, refused},
		{"two slashes inside", "/v1//users/ada", 400, refused},
		{"a slash at the end", "/v1/users/ada/", 404, "NO_SUCH_PATH"},
		{"two slashes at the end", "/v1/users/ada//", 400, refused},
		{"a NUL at the end", "/v1/users/ada%00", 400, refused},
		{"a line end", "/v1/users/ada%0d%0aSet-Cookie:x", 400, refused},
		{"DEL", "/v1/users/ada%7f", 400, refused},
		{"a C1 control", "/v1/users/ada%c2%80", 400, refused},
		{"overlong dots", "/v1/users/%c0%ae%c0%ae/grace", 400, refused},
		{"an overlong slash", "/v1/users/ada%c0%afgrace", 400, refused},
		{"an overlong slash of three bytes", "/v1/users/ada%e0%80%afgrace", 400, refused},
		{"raw bytes", "/v1/users/ada\xff", 400, refused},
		{"fullwidth slash is data", "/v1/users/ada%ef%bc%8f..", 403, "NOT_OWNER"},
		{"UTF-16 escapes", "/v1/users/%u0061da", 400, "net/http"},
		{"a truncated escape", "/v1/users/ada%", 400, "net/http"},
		{"a truncated escape of one digit", "/v1/users/ada%2", 400, "net/http"},
		{"an escape that is none", "/v1/users/ada%zz", 400, "net/http"},
		{"a space", "/v1/users/ada grace", 400, "net/http"},
		{"a space, encoded", "/v1/users/ada%20", 403, "NOT_OWNER"},
		{"a plus", "/v1/users/ada+", 403, "NOT_OWNER"},
		{"a verb", "/v1/users/ada:delete", 403, "NOT_OWNER"},
		{"an empty owner", "/v1/users//profile", 400, refused},
		{"absolute form", "http://evil.test/v1/users/ada", 200, ""},
		{"absolute form with dots", "http://evil.test/v1/users/ada/../grace", 400, refused},
		{"absolute form without a path", "http://evil.test", 404, "NO_SUCH_PATH"},
		{"absolute form of another scheme", "file:///v1/users/ada", 400, "TARGET_REFUSED"},
		{"absolute form with a user", "http://ada@evil.test/v1/users/ada", 400, "TARGET_REFUSED"},
		{"authority form", "evil.test:80", 400, "TARGET_REFUSED"},
		{"asterisk", "*", 400, "TARGET_REFUSED"},
		{"a fragment", "/v1/users/ada#/grace", 400, "TARGET_REFUSED"},
		{"no slash", "v1/users/ada", 400, "net/http"},
		{"8,000 bytes", "/v1/users/" + strings.Repeat("a", 8000), 403, "NOT_OWNER"},
		{"9,000 bytes", "/v1/users/" + strings.Repeat("a", 9000), 414, "URL_TOO_LONG"},
		{"60,000 bytes", "/v1/users/" + strings.Repeat("a", 60_000), 414, "URL_TOO_LONG"},
		{"3,000 segments", strings.Repeat("/a", 3000), 404, "NO_SUCH_PATH"},
		{"101 parameters", "/v1/users/ada?" + strings.Repeat("a=1&", 100) + "a=1", 400, "TOO_MANY_QUERY_PARAMETERS"},
		{"a semicolon in the query", "/v1/users/ada?a=1;b=2", 400, ""},
		{"a query that cannot be read", "/v1/users/ada?a=%zz", 400, ""},
		{"a query of a nested field", "/v1/users/ada?user.user_id=grace", 400, ""},
		{"admin's own listener", "/metrics", 404, "NO_SUCH_PATH"},
		{"profiles of the process", "/debug/pprof/heap", 404, "NO_SUCH_PATH"},
		{"a file", "/docs/..%2f..%2fetc/passwd", 400, refused},
		{"a file by dots", "/docs/../../etc/passwd", 400, refused},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, verb := range []string{"GET", "HEAD"} {
				got := exchange(t, tg.addr, verb+" "+c.target+" HTTP/1.1\r\nHost: gateway.test\r\n"+lines(bearer(tg.ada))+"\r\n", 1)
				if len(got) != 1 || got[0].status != c.status || (verb == "GET" && got[0].reason != c.reason) {
					t.Errorf("%s: %v; want %d %s", verb, got, c.status, c.reason)
				}
				mine(t, got, "grace@example.com", verb == "GET" && c.status == 200, "ada@example.com")
			}
			got := exchange(t, tg.addr, "GET "+c.target+" HTTP/1.1\r\nHost: gateway.test\r\n"+lines(bearer(tg.grace))+"\r\n", 1)
			if len(got) != 1 || got[0].status < 400 {
				t.Errorf("asked by grace: %v", got)
			}
			mine(t, got, "ada@example.com", false, "")
		})
	}
	tg.serves(t)
	tg.bounded(t)
	if n := tg.metric(t, "sluice_refused_total", `limit="path"`); n < 40 {
		t.Errorf("sluice_refused_total counts %v refused paths", n)
	}
}

// mine fails when an answer holds what is another's, or not what it should.
func mine(t *testing.T, got []verdict, others string, has bool, own string) {
	t.Helper()
	for _, v := range got {
		if strings.Contains(v.body, others) {
			t.Errorf("another's data: %v", v)
		}
		if has && !strings.Contains(v.body, own) {
			t.Errorf("without the caller's own data: %v", v)
		}
	}
}
