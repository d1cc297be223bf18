package httpedge

import (
	"strings"
	"testing"
)

func TestOrigins(t *testing.T) {
	for name, tc := range map[string]struct {
		allowed   []string
		yes, no   []string
		withCreds bool
	}{
		"exact": {allowed: []string{"https://app.example.com", "http://localhost:3000", "HTTPS://UPPER.example.com"}, withCreds: true,
			yes: []string{"https://app.example.com", "http://localhost:3000", "https://upper.example.com"},
			no: []string{"http://app.example.com", "https://app.example.com:443", "https://app.example.com.evil.com", "https://evil-app.example.com", "https://app.example.com/",
				"https://APP.example.com", "https://app.example.comx", "https://app.example.co", "app.example.com", "", "null", "*", "http://localhost", "http://localhost:30000"}},
		"pattern": {allowed: []string{"https://*.example.com", "https://preview-*.example.com:8443"}, withCreds: true,
			yes: []string{"https://a.example.com", "https://app-2.example.com", "https://preview-12.example.com:8443"},
			no: []string{"https://example.com", "https://.example.com", "https://a.b.example.com", "http://a.example.com", "https://a.example.com:8443", "https://evil.com/.example.com",
				"https://evil.com?.example.com", "https://evil.com#.example.com", "https://evil.com:80.example.com", "https://a@b.example.com", "https://evil.com\\.example.com",
				"https://a.example.com.evil.com", "https://preview-.example.com:8443", "https://preview-x.y.example.com:8443", "https://A.example.com", "https://a%2e.example.com", "https://é.example.com", "null"}},
		"null by name": {allowed: []string{"null", "https://a.example.com"}, yes: []string{"null", "https://a.example.com"}, no: []string{"NULL", "https://b.example.com", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := newOrigins(&CORSOptions{AllowedOrigins: tc.allowed, AllowCredentials: tc.withCreds})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range tc.yes {
				if !s.allow(o) {
					t.Errorf("%q is refused", o)
				}
			}
			for _, o := range tc.no {
				if s.allow(o) {
					t.Errorf("%q is allowed", o)
				}
			}
		})
	}
}

func TestCORSOptions(t *testing.T) {
	for _, o := range []CORSOptions{
		{}, {AllowedOrigins: []string{"*"}, AllowCredentials: true}, {AllowedOrigins: []string{"https://a.example.com", "*"}, AllowCredentials: true},
		{AllowedOrigins: []string{"null"}, AllowCredentials: true}, {AllowedOrigins: []string{""}}, {AllowedOrigins: []string{"example.com"}},
		{AllowedOrigins: []string{"ftp://example.com"}}, {AllowedOrigins: []string{"https://"}}, {AllowedOrigins: []string{"https://example.com/"}},
		{AllowedOrigins: []string{"https://example.com/x"}}, {AllowedOrigins: []string{"https://example.com?x"}}, {AllowedOrigins: []string{"https://a@example.com"}},
		{AllowedOrigins: []string{"https://*"}}, {AllowedOrigins: []string{"https://*.com"}}, {AllowedOrigins: []string{"https://*example.com"}},
		{AllowedOrigins: []string{"https://*.*.example.com"}}, {AllowedOrigins: []string{"*://a.example.com"}}, {AllowedOrigins: []string{"https://a.example.com:*"}},
		{AllowedOrigins: []string{"https://a.*"}}, {AllowedOrigins: []string{"https://a.example.com:"}}, {AllowedOrigins: []string{"https://*.com."}}, {AllowedOrigins: []string{"http*://a.example.com"}},
		{AllowedOrigins: []string{"https://a.example.com"}, AllowedHeaders: []string{"*"}}, {AllowedOrigins: []string{"https://a.example.com"}, AllowedHeaders: []string{"A b"}},
		{AllowedOrigins: []string{"https://a.example.com"}, AllowedHeaders: []string{""}},
	} {
		if _, err := New(Options{CORS: &o}); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// FuzzOrigin: what is allowed is listed, or differs from a pattern in one label
// alone; so it has the pattern's scheme, domain and port.
func FuzzOrigin(f *testing.F) {
	for _, s := range []string{"https://a.example.com", "https://app.example.org", "null", "https://evil.com/.example.com", "https://x.y.example.com", "http://v1-x.example.net:8080", "https://.example.com", "https://a@b.example.com"} {
		f.Add(s)
	}
	s, err := newOrigins(&CORSOptions{AllowedOrigins: []string{"https://*.example.com", "https://app.example.org", "http://v1-*.example.net:8080"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, origin string) {
		if !s.allow(origin) {
			return
		}
		if strings.ContainsAny(origin[len("http"):], "@\\?#% ") || strings.Count(origin, "/") != 2 {
			t.Errorf("%q is no origin", origin)
		}
		scheme, host, _ := strings.Cut(origin, "://")
		labels := strings.Split(host, ".")
		if len(labels) != 3 || labels[0] == "" {
			t.Fatalf("%q", origin)
		}
		switch parent := scheme + " " + labels[1] + "." + labels[2]; {
		case parent == "https example.com", origin == "https://app.example.org":
		case parent == "http example.net:8080" && strings.HasPrefix(labels[0], "v1-") && labels[0] != "v1-":
		default:
			t.Errorf("%q is allowed", origin)
		}
	})
}
