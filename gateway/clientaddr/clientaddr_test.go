package clientaddr_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/clientaddr"
)

var trusted = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:f::/48"), netip.MustParsePrefix("::ffff:192.168.0.0/112"),
}

func of(lines ...string) func(string) []string {
	return http.Header{"X-Forwarded-For": lines, "Forwarded": lines}.Values
}

func TestXForwardedFor(t *testing.T) {
	r := clientaddr.New(clientaddr.Options{Trusted: trusted})
	for name, tc := range map[string]struct {
		peer  string
		lines []string
		want  string
	}{
		"a stranger is not believed":             {"203.0.113.9", []string{"198.51.100.1"}, "203.0.113.9"},
		"a stranger, mapped":                     {"::ffff:203.0.113.9", []string{"198.51.100.1"}, "203.0.113.9"},
		"a stranger with a zone":                 {"fe80::1%eth0", nil, "fe80::1"},
		"a proxy without the header":             {"10.0.0.1", nil, "10.0.0.1"},
		"a proxy's word":                         {"10.0.0.1", []string{"198.51.100.1"}, "198.51.100.1"},
		"a proxy, mapped":                        {"::ffff:10.0.0.1", []string{"198.51.100.1"}, "198.51.100.1"},
		"a proxy of a mapped network":            {"192.168.7.7", []string{"198.51.100.1"}, "198.51.100.1"},
		"a proxy over IPv6":                      {"2001:db8:f::1", []string{"2001:db8::1"}, "2001:db8::1"},
		"what the caller put before is his":      {"10.0.0.1", []string{"6.6.6.6, 198.51.100.1"}, "198.51.100.1"},
		"a trusted address the caller put":       {"10.0.0.1", []string{"10.9.9.9, 198.51.100.1"}, "198.51.100.1"},
		"two proxies":                            {"10.0.0.1", []string{"6.6.6.6, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		"several lines are one list":             {"10.0.0.1", []string{"6.6.6.6", "198.51.100.1", "10.0.0.3,10.0.0.2"}, "198.51.100.1"},
		"all are trusted":                        {"10.0.0.1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"no spaces, tabs, empty elements":        {"10.0.0.1", []string{" ,198.51.100.1,,\t10.0.0.2 , "}, "198.51.100.1"},
		"with a port":                            {"10.0.0.1", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		"IPv6":                                   {"10.0.0.1", []string{"2001:db8::1"}, "2001:db8::1"},
		"IPv6 in brackets":                       {"10.0.0.1", []string{"[2001:db8::1]"}, "2001:db8::1"},
		"IPv6 with a port":                       {"10.0.0.1", []string{"[2001:db8::1]:443"}, "2001:db8::1"},
		"IPv6 with a zone":                       {"10.0.0.1", []string{"fe80::1%eth0"}, "fe80::1"},
		"mapped":                                 {"10.0.0.1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		"mapped, trusted":                        {"10.0.0.1", []string{"198.51.100.1, ::ffff:10.0.0.2"}, "198.51.100.1"},
		"unknown ends it":                        {"10.0.0.1", []string{"198.51.100.1, unknown"}, "10.0.0.1"},
		"garbage ends it at the last good one":   {"10.0.0.1", []string{"198.51.100.1, garbage, 10.0.0.2"}, "10.0.0.2"},
		"a name ends it":                         {"10.0.0.1", []string{"localhost"}, "10.0.0.1"},
		"an obfuscated name ends it":             {"10.0.0.1", []string{"_hidden"}, "10.0.0.1"},
		"a port that is none":                    {"10.0.0.1", []string{"198.51.100.1:x"}, "10.0.0.1"},
		"a port too long":                        {"10.0.0.1", []string{"198.51.100.1:123456"}, "10.0.0.1"},
		"an empty port":                          {"10.0.0.1", []string{"198.51.100.1:"}, "10.0.0.1"},
		"brackets around IPv4":                   {"10.0.0.1", []string{"[198.51.100.1]"}, "10.0.0.1"},
		"a bracket that is open":                 {"10.0.0.1", []string{"[2001:db8::1"}, "10.0.0.1"},
		"something behind the bracket":           {"10.0.0.1", []string{"[2001:db8::1]x"}, "10.0.0.1"},
		"leading zeros are no address":           {"10.0.0.1", []string{"198.051.100.1"}, "10.0.0.1"},
		"quotes are not of this header":          {"10.0.0.1", []string{`"198.51.100.1"`}, "10.0.0.1"},
		"a short form is no address":             {"10.0.0.1", []string{"127.1"}, "10.0.0.1"},
		"a long list before does not matter":     {"10.0.0.1", []string{strings.Repeat("6.6.6.6, ", 5000) + "198.51.100.1"}, "198.51.100.1"},
		"a long line before does not matter":     {"10.0.0.1", []string{strings.Repeat("x", 60000) + ",198.51.100.1"}, "198.51.100.1"},
		"an entry longer than the bound":         {"10.0.0.1", []string{"198.51.100.1," + strings.Repeat(" ", 5000)}, "10.0.0.1"},
		"more proxies than the bound":            {"10.0.0.1", []string{"198.51.100.1" + strings.Repeat(",10.0.0.2", 32)}, "10.0.0.2"},
		"as many proxies as the bound lets pass": {"10.0.0.1", []string{"198.51.100.1" + strings.Repeat(",10.0.0.2", 31)}, "198.51.100.1"},
		"more empty elements than the bound":     {"10.0.0.1", []string{"198.51.100.1" + strings.Repeat(",", 40)}, "10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := r.Client(netip.MustParseAddr(tc.peer), of(tc.lines...)); got.String() != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestForwarded(t *testing.T) {
	r := clientaddr.New(clientaddr.Options{Trusted: trusted, Header: clientaddr.Forwarded})
	for name, tc := range map[string]struct {
		lines []string
		want  string
	}{
		"an address":                       {[]string{"for=198.51.100.1"}, "198.51.100.1"},
		"any case, other parameters":       {[]string{`By=_gw;FOR=198.51.100.1;proto=https;host="a,b;c"`}, "198.51.100.1"},
		"spaces around semicolons":         {[]string{"for=198.51.100.1 ; proto=https; "}, "198.51.100.1"},
		"quoted, with a port":              {[]string{`for="198.51.100.1:80"`}, "198.51.100.1"},
		"IPv6":                             {[]string{`for="[2001:db8::1]"`}, "2001:db8::1"},
		"IPv6 with a port":                 {[]string{`for="[2001:db8::1]:4711"`}, "2001:db8::1"},
		"IPv6 with an obfuscated port":     {[]string{`for="[2001:db8::1]:_p-1"`}, "2001:db8::1"},
		"escaped characters":               {[]string{`for="19\8.51.100.1"`}, "198.51.100.1"},
		"an escaped quote":                 {[]string{`host="a\",for=6.6.6.6,b";for=198.51.100.1`}, "198.51.100.1"},
		"two escapes before a quote":       {[]string{`for=6.6.6.6, host="a\\";for=198.51.100.1`}, "198.51.100.1"},
		"from the right":                   {[]string{"for=6.6.6.6, for=198.51.100.1", "for=10.0.0.3, for=10.0.0.2"}, "198.51.100.1"},
		"a caller's open quote":            {[]string{`for="6.6.6.6, for=198.51.100.1`}, "198.51.100.1"},
		"a caller's open quote, quoted":    {[]string{`for="6.6.6.6, for="[2001:db8::1]"`}, "2001:db8::1"},
		"a caller's backslash":             {[]string{`for="6.6.6.6\, for="[2001:db8::1]"`}, "2001:db8::1"},
		"a caller's bytes, very many":      {[]string{strings.Repeat(`"`, 60000) + `, for=198.51.100.1`}, "198.51.100.1"},
		"all are trusted":                  {[]string{"for=10.0.0.3, for=10.0.0.2"}, "10.0.0.3"},
		"unknown":                          {[]string{"for=198.51.100.1, for=unknown"}, "10.0.0.1"},
		"obfuscated":                       {[]string{"for=198.51.100.1, for=_hidden, for=10.0.0.2"}, "10.0.0.2"},
		"a hop that does not say for whom": {[]string{"for=198.51.100.1, proto=https"}, "10.0.0.1"},
		"for twice":                        {[]string{"for=198.51.100.1;for=6.6.6.6"}, "10.0.0.1"},
		"IPv6 without quotes":              {[]string{"for=[2001:db8::1]"}, "10.0.0.1"},
		"IPv4 with a port without quotes":  {[]string{"for=198.51.100.1:80"}, "10.0.0.1"},
		"no value":                         {[]string{"for="}, "10.0.0.1"},
		"an empty value":                   {[]string{`for=""`}, "10.0.0.1"},
		"no pair":                          {[]string{"198.51.100.1"}, "10.0.0.1"},
		"space around the equals sign":     {[]string{"for = 198.51.100.1"}, "10.0.0.1"},
		"something behind the quotes":      {[]string{`for="198.51.100.1"x`}, "10.0.0.1"},
		"quote that does not open":         {[]string{`198.51.100.1"`}, "10.0.0.1"},
		"another name that ends in for":    {[]string{"xfor=198.51.100.1"}, "10.0.0.1"},
		"empty elements":                   {[]string{"for=198.51.100.1, , ,", ""}, "198.51.100.1"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := r.Client(netip.MustParseAddr("10.0.0.1"), of(tc.lines...)); got.String() != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestWhoIsAsked(t *testing.T) {
	proxy := netip.MustParseAddr("10.0.0.1")
	h := http.Header{"X-Forwarded-For": {"198.51.100.1"}, "Forwarded": {"for=198.51.100.2"}}
	for want, r := range map[string]*clientaddr.Resolver{
		"198.51.100.1": clientaddr.New(clientaddr.Options{Trusted: trusted}),
		"198.51.100.2": clientaddr.New(clientaddr.Options{Trusted: trusted, Header: clientaddr.Forwarded}),
		"10.0.0.1":     clientaddr.New(clientaddr.Options{Trusted: trusted, Header: clientaddr.None}),
	} {
		if got := r.Client(proxy, h.Values); got.String() != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for name, r := range map[string]*clientaddr.Resolver{
		"nil": nil, "nobody trusted": clientaddr.New(clientaddr.Options{}),
		"a prefix that is none": clientaddr.New(clientaddr.Options{Trusted: []netip.Prefix{{}}}),
	} {
		if got := r.Client(proxy, h.Values); got != proxy {
			t.Errorf("%s: got %s", name, got)
		}
		if got := r.Client(netip.Addr{}, h.Values); got.IsValid() {
			t.Errorf("%s: no peer became %s", name, got)
		}
	}
}

func TestUntrusted(t *testing.T) {
	n := 0
	r := clientaddr.New(clientaddr.Options{Trusted: trusted, Untrusted: func() { n++ }})
	stranger, proxy := netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("10.0.0.1")
	for _, tc := range []struct {
		peer    netip.Addr
		headers func(string) []string
		want    int
	}{
		{stranger, of("198.51.100.1"), 1}, {stranger, http.Header{}.Values, 1}, {proxy, of("198.51.100.1"), 1}, {stranger, of(""), 2},
	} {
		if r.Client(tc.peer, tc.headers); n != tc.want {
			t.Errorf("called %d times, want %d", n, tc.want)
		}
	}
}

func TestSparsely(t *testing.T) {
	n := 0
	f := clientaddr.Sparsely(time.Hour, func() { n++ })
	for range 100 {
		f()
	}
	if n != 1 {
		t.Errorf("called %d times", n)
	}
	always := clientaddr.Sparsely(0, func() { n++ })
	always()
	always()
	if n != 3 {
		t.Errorf("called %d times", n-1)
	}
}

func TestClientDoesNotAllocate(t *testing.T) {
	h := http.Header{"X-Forwarded-For": {"6.6.6.6, 198.51.100.1, 10.0.0.2"}}
	headers := h.Values
	r := clientaddr.New(clientaddr.Options{Trusted: trusted, Untrusted: func() {}})
	for _, peer := range []string{"203.0.113.9", "10.0.0.1", "::ffff:203.0.113.9"} {
		p := netip.MustParseAddr(peer)
		if got := testing.AllocsPerRun(100, func() { r.Client(p, headers) }); got != 0 {
			t.Errorf("%s: %v allocations", peer, got)
		}
	}
}

func BenchmarkClient(b *testing.B) {
	headers := http.Header{"X-Forwarded-For": {"6.6.6.6, 198.51.100.1, 10.0.0.2"}}.Values
	r := clientaddr.New(clientaddr.Options{Trusted: trusted})
	for name, peer := range map[string]string{"stranger": "203.0.113.9", "proxy": "10.0.0.1"} {
		p := netip.MustParseAddr(peer)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Client(p, headers)
			}
		})
	}
}

// FuzzClient: the answer is the peer, or an address that stands in the header;
// and a trusted one only where nothing on its right is a stranger's.
func FuzzClient(f *testing.F) {
	for _, s := range []string{"", "198.51.100.1", "6.6.6.6, 10.0.0.2", "[2001:db8::1]:80\n10.0.0.2", "fe80::1%eth0", `for="[2001:db8::1]:80";by=x, for=10.0.0.2`,
		`for="_x\",for=1.2.3.4`, `for="1.2.3.4"`, "for=unknown", ",,,", "::ffff:10.0.0.2,x", `for="\1.2.3.4"`, "1.2.3.4:80,10.0.0.2:_x"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	peer := netip.MustParseAddr("10.0.0.1")
	f.Fuzz(func(t *testing.T, header string, rfc7239 bool) {
		o := clientaddr.Options{Trusted: trusted}
		if rfc7239 {
			o.Header = clientaddr.Forwarded
		}
		lines := strings.Split(header, "\n")
		got := clientaddr.New(o).Client(peer, of(lines...))
		if stranger := netip.MustParseAddr("203.0.113.9"); clientaddr.New(o).Client(stranger, of(lines...)) != stranger {
			t.Fatal("a stranger was believed")
		}
		if !got.IsValid() || got.Is4In6() || got.Zone() != "" {
			t.Fatalf("got %v", got)
		}
		if got == peer {
			return
		}
		at := lastIn(lines, got)
		if at < 0 {
			t.Fatalf("%v does not stand in %q", got, lines)
		}
		if !isTrusted(got) {
			return
		}
		for _, e := range entries(lines)[at+1:] {
			if a, err := netip.ParseAddr(e); err == nil && !rfc7239 && !isTrusted(a.Unmap().WithZone("")) {
				t.Fatalf("%v is trusted, though %v comes after it in %q", got, a, lines)
			}
		}
	})
}

func isTrusted(a netip.Addr) bool {
	for _, p := range []string{"10.0.0.0/8", "2001:db8:f::/48", "192.168.0.0/16"} {
		if netip.MustParsePrefix(p).Contains(a) {
			return true
		}
	}
	return false
}

// entries are the elements of all lines in order, split at every comma.
func entries(lines []string) (out []string) {
	for _, l := range lines {
		for _, e := range strings.Split(l, ",") {
			out = append(out, strings.Trim(e, " \t"))
		}
	}
	return out
}

// lastIn finds the last entry that has the address in it, however it is dressed.
func lastIn(lines []string, want netip.Addr) int {
	at := -1
	for i, e := range entries(lines) {
		e = strings.ReplaceAll(e, `\`, "")
		for _, token := range strings.FieldsFunc(e, func(c rune) bool { return strings.ContainsRune(`"[]=; `+"\t", c) }) {
			host, _, _ := strings.Cut(token, ":")
			for _, s := range []string{token, host} {
				if a, err := netip.ParseAddr(s); err == nil && a.Unmap().WithZone("") == want {
					at = i
				}
			}
		}
	}
	return at
}
