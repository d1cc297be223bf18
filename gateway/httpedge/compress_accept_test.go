package httpedge

import (
	"strings"
	"testing"
)

func TestNegotiate(t *testing.T) {
	for _, c := range []struct {
		name     string
		lines    []string
		want     Coding
		identity bool
	}{
		{"no header", nil, CodingIdentity, true},
		{"empty: identity alone", []string{""}, CodingIdentity, true},
		{"gzip", []string{"gzip"}, CodingGzip, true},
		{"a browser", []string{"gzip, deflate, br, zstd"}, CodingZstd, true},
		{"Go", []string{"gzip"}, CodingGzip, true},
		{"curl --compressed", []string{"deflate, gzip, br, zstd"}, CodingZstd, true},
		{"nothing we have", []string{"br, deflate"}, CodingIdentity, true},
		{"in any case", []string{"GZip"}, CodingGzip, true},
		{"x-gzip", []string{"x-gzip"}, CodingGzip, true},
		{"several lines", []string{"br", "gzip;q=0.5", "zstd;q=0.4"}, CodingGzip, true},
		{"equal weights", []string{"gzip;q=0.5, zstd;q=0.5"}, CodingZstd, true},
		{"the heavier one", []string{"gzip;q=1.0, zstd;q=0.999"}, CodingGzip, true},
		{"the lightest", []string{"gzip;q=0.001"}, CodingGzip, true},
		{"nothing of it", []string{"gzip;q=0, zstd;q=0.0"}, CodingIdentity, true},
		{"star", []string{"*"}, CodingGzip, true},
		{"star, but for gzip", []string{"*, gzip;q=0"}, CodingZstd, true},
		{"star weighs less than a name", []string{"*, zstd"}, CodingZstd, true},
		{"star weighs more", []string{"gzip;q=0.2, *;q=0.3"}, CodingZstd, true},
		{"no star", []string{"*;q=0"}, CodingIdentity, true},
		{"only gzip", []string{"gzip, *;q=0"}, CodingGzip, false},
		{"never identity", []string{"identity;q=0, gzip;q=0.1"}, CodingGzip, false},
		{"never identity, and nothing we have", []string{"identity;q=0, br"}, CodingIdentity, true},
		{"nothing at all", []string{"identity;q=0, *;q=0"}, CodingIdentity, true},
		{"rather identity", []string{"identity, gzip;q=0.9"}, CodingIdentity, true},
		{"as well as identity", []string{"identity, gzip"}, CodingGzip, true},
		{"star has identity, too", []string{"gzip;q=0.5, zstd;q=0, *"}, CodingIdentity, true},
		{"spaces and empty members", []string{" ,\t gzip ; q=0.8 , ,"}, CodingGzip, true},
		{"Q", []string{"gzip;Q=0.5"}, CodingGzip, true},
		{"twice: the lower", []string{"gzip, gzip;q=0, x-gzip"}, CodingIdentity, true},
		{"weight over 1", []string{"gzip;q=1.001"}, CodingIdentity, true},
		{"weight of four digits", []string{"gzip;q=0.1234"}, CodingIdentity, true},
		{"weight without digits", []string{"gzip;q="}, CodingIdentity, true},
		{"weight with a sign", []string{"gzip;q=-1"}, CodingIdentity, true},
		{"weight in words", []string{"gzip;q=high"}, CodingIdentity, true},
		{"a dot alone is a weight", []string{"gzip;q=1."}, CodingGzip, true},
		{"no equals sign", []string{"gzip;q"}, CodingIdentity, true},
		{"space in a weight", []string{"gzip;q= 1"}, CodingIdentity, true},
		{"another parameter", []string{"gzip;level=9"}, CodingIdentity, true},
		{"two parameters", []string{"gzip;q=1;q=1"}, CodingIdentity, true},
		{"no comma", []string{"gzip zstd"}, CodingIdentity, true},
		{"quoted", []string{`"gzip"`}, CodingIdentity, true},
		{"no name", []string{"gzip, ;q=1"}, CodingIdentity, true},
		{"not ASCII", []string{"gzip, gzíp"}, CodingIdentity, true},
		{"one line malformed", []string{"gzip", "zstd;;"}, CodingIdentity, true},
		{"8 KB", []string{"gzip, " + strings.Repeat("x", 8<<10)}, CodingIdentity, true},
		{"1000 members", []string{strings.Repeat("gzip,", 1000)}, CodingIdentity, true},
		{"1000 lines", slicesOf(1000, "gzip"), CodingIdentity, true},
		{"as much as is read", []string{"zstd" + strings.Repeat(" ", maxAcceptEncoding-5)}, CodingZstd, true},
		{"a byte more", []string{"zstd" + strings.Repeat(" ", maxAcceptEncoding-4)}, CodingIdentity, true},
	} {
		if got, identity := negotiate(c.lines); got != c.want || identity != c.identity {
			t.Errorf("%s: Coding %d, identity %v; want %d, %v", c.name, got, identity, c.want, c.identity)
		}
	}
}

func slicesOf(n int, line string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = line
	}
	return out
}

func TestNegotiateAllocatesNothing(t *testing.T) {
	for _, lines := range [][]string{nil, {"gzip, deflate, br, zstd"}, {"gzip;q=0.5", " x-gzip ; q=0.1 , *;q=0"}, {"gzip;;"}} {
		if n := testing.AllocsPerRun(100, func() { negotiate(lines) }); n != 0 {
			t.Errorf("%q: %v allocations", lines, n)
		}
	}
}

// FuzzNegotiate holds what must be so whatever is sent: a Coding that is chosen
// is one that is named, or that * stands for; none is chosen that is refused.
func FuzzNegotiate(f *testing.F) {
	for _, s := range []string{"", "gzip, deflate, br, zstd", "*;q=0.5, gzip;q=0", "identity;q=0,x-gzip", "gzip;q=1.001", ",,\t;", "zstd;q=0.0001"} {
		f.Add(s, "br")
	}
	names := map[Coding][]string{CodingGzip: {"gzip"}, CodingZstd: {"zstd"}}
	f.Fuzz(func(t *testing.T, a, b string) {
		k, identity := negotiate([]string{a, b})
		again, _ := negotiate([]string{a + "," + b})
		if len(a)+len(b)+2 <= maxAcceptEncoding && k != again {
			t.Fatalf("%q, %q: %d in two lines, %d in one (RFC 9110, 5.3)", a, b, k, again)
		}
		if k == CodingIdentity {
			if !identity {
				t.Fatalf("%q, %q: identity is chosen and refused", a, b)
			}
			return
		}
		all := strings.ToLower(a + "," + b)
		if !strings.Contains(all, names[k][0]) && !strings.Contains(all, "*") {
			t.Fatalf("%q: %d was chosen, which nobody named", all, k)
		}
		if refused, _ := negotiate([]string{a, b, names[k][0] + ";q=0"}); refused == k {
			t.Fatalf("%q: %d was chosen though refused", all, k)
		}
	})
}

func BenchmarkNegotiate(b *testing.B) {
	for name, lines := range map[string][]string{
		"browser": {"gzip, deflate, br, zstd"}, "go": {"gzip"},
		"attack": {strings.Repeat("gzip;q=0.5,", maxAcceptEncoding/11-1)}, "attack_8KB": {strings.Repeat("a,", 4<<10)},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				negotiate(lines)
			}
		})
	}
}
