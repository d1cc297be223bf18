package route

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestNormalize(t *testing.T) {
	for escaped, want := range map[string]string{
		"/":                        "/",
		"/v1/users/ada":            "/v1/users/ada",
		"/v1/users/":               "/v1/users/",
		"/v1/orders/1:cancel":      "/v1/orders/1:cancel",
		"/v1/orders/1%3Acancel":    "/v1/orders/1:cancel",
		"/v1/a%20b%c3%A9":          "/v1/a bé",
		"/v1/é":                    "/v1/é",
		"/v1/a%2525":               "/v1/a%25", // once, not twice
		"/v1/a%252fb":              "/v1/a%2fb",
		"/v1/.../.a/a./a..b/..a":   "/v1/.../.a/a./a..b/..a",
		"/v1/...:go":               "/v1/...:go",
		"/%61":                     "/a",
		"/" + long(MaxPath-1):      "/" + long(MaxPath-1),
		"/a%7e;b=c,d@e!$&'()*+[ ]": "/a~;b=c,d@e!$&'()*+[ ]",
	} {
		if got, err := Normalize(escaped); got != want || err != nil {
			t.Errorf("Normalize(%.60q) = %.60q, %v, want %.60q", escaped, got, err, want)
		}
	}
}

func TestNormalizeRefuses(t *testing.T) {
	for reason, paths := range map[string][]string{
		reasonNoSlash:      {"", "*", "a", "%2fa", "http://x/"},
		reasonTooLong:      {"/" + long(MaxPath), "/" + strings.Repeat("%61", MaxPath/3+1)},
		reasonBadEscape:    {"/%", "/a%", "/a%2", "/a%2g", "/a%g2", "/a%%61", "/%u0041"},
		reasonEncodedSlash: {"/a%2fb", "/a%2Fb", "/%2f", "/a/..%2f", "/a%2f"},
		reasonBackslash:    {`/a\b`, "/a%5cb", "/a%5C..%5cb", `/\`},
		reasonControl:      {"/a%c2%85b", "/\u009b", "/a\x00", "/a%00", "/%1f", "/%7f", "/a\x7f", "/a%0d%0ab", "/a\tb", "/a\n"},
		reasonNotUTF8:      {"/%c0%ae", "/%ff", "/\xff", "/a%C3/b", "/%ed%a0%80", "/%c0%af"},
		reasonEmptySegment: {"/;", "/;x/a", "/a/;b=c", "/a/%3bb", "//", "//a", "/a//b", "/a//", "///"},
		reasonDotSegment: {"/.", "/..", "/a/.", "/a/..", "/./a", "/a/../b", "/%2e", "/a/%2e%2e", "/a/.%2E/b", "/%2e./",
			"/..;/a", "/a/..;x=y/b", "/a/.;", "/a/%2e%2e%3b/b", "/a/..:go", "/a/.:go", "/a/%2e%2e%3ago"},
	} {
		for _, p := range paths {
			got, err := Normalize(p)
			var refused *PathError
			if !errors.As(err, &refused) || refused.Reason != reason || got != "" {
				t.Errorf("Normalize(%.60q) = %.60q, %v, want reason %q", p, got, err, reason)
			}
		}
	}
}

// A client's bytes must not come back in an error that is shown or counted.
func TestPathErrorNamesNoInput(t *testing.T) {
	_, err := Normalize("/<script>%")
	if err == nil || strings.Contains(err.Error(), "script") {
		t.Errorf("error is %v", err)
	}
}

func TestNormalizeAllocates(t *testing.T) {
	for path, want := range map[string]float64{"/v1/users/ada/orders:x": 0, "/v1/é": 0, "/v1/a%20b": 1} {
		if got := testing.AllocsPerRun(100, func() { _, _ = Normalize(path) }); got != want {
			t.Errorf("Normalize(%q) allocates %v times, want %v", path, got, want)
		}
	}
}

func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"/", "/v1/a%20b", "/a%2fb", "/%c0%ae", "/a/../b", "/%2e%2e/", "/a//", "/a%00", `/a\b`, "/%25%32%66", "/a;b/..;/c", "/%c2%85", "/a%2fb{",
		"/é/%C3%A9", "/a/..:b", "/%", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, escaped string) {
		got, err := Normalize(escaped)
		unescaped, escapeErr := url.PathUnescape(escaped)
		if err != nil {
			var refused *PathError
			if !errors.As(err, &refused) || got != "" {
				t.Fatalf("Normalize(%q) = %q, %v", escaped, got, err)
			}
			if escapeErr == nil && harmless(escaped, unescaped) {
				t.Fatalf("Normalize(%q) refuses a path that has nothing wrong: %v", escaped, err)
			}
			return
		}
		if escapeErr != nil || got != unescaped {
			t.Fatalf("Normalize(%q) = %q, PathUnescape = %q, %v", escaped, got, unescaped, escapeErr)
		}
		if !harmless(escaped, got) {
			t.Fatalf("Normalize(%q) = %q, which it should refuse", escaped, got)
		}
		// What was decoded once means the same when it is encoded and read again.
		again, err := Normalize((&url.URL{Path: got}).EscapedPath())
		if tooLong := len(got)*3 > MaxPath; !tooLong && (again != got || err != nil) {
			t.Fatalf("Normalize(%q) = %q, which read again is %q, %v", escaped, got, again, err)
		}
	})
}

// harmless says the rules over, one by one and slowly.
func harmless(escaped, path string) bool {
	if !strings.HasPrefix(escaped, "/") || len(escaped) > MaxPath || strings.Contains(strings.ToLower(escaped), "%2f") {
		return false
	}
	if strings.ContainsAny(path, "\\\x7f") || strings.IndexFunc(path, func(r rune) bool { return unicode.IsControl(r) }) >= 0 || !utf8.ValidString(path) {
		return false
	}
	segments := strings.Split(path[1:], "/")
	if slices.Contains(segments[:len(segments)-1], "") {
		return false
	}
	return !slices.ContainsFunc(segments, func(s string) bool {
		beforeVerb, _, _ := strings.Cut(s, ":")
		beforeParameter, _, _ := strings.Cut(s, ";")
		beforeBoth, _, _ := strings.Cut(beforeVerb, ";")
		return strings.HasPrefix(s, ";") || slices.ContainsFunc([]string{beforeVerb, beforeParameter, beforeBoth}, func(s string) bool { return s == "." || s == ".." })
	})
}

func long(n int) string { return strings.Repeat("a", n) }
