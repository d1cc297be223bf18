package redis_test

import (
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/redis"
)

func TestKeys(t *testing.T) {
	long := strings.Repeat("x", 129)
	for _, tc := range []struct {
		ask  limit.Ask
		want string
	}{
		{rate("read/principal/0", "ada", 1, 1, 1), "p:rate:read/principal/0:ada"},
		{quota("q", "", 1, 1, limit.Day), "p:day:q:"},
		{quota("q", "2001:db8::/64", 1, 1, limit.Month), "p:month:q:2001%3Adb8%3A%3A/64"},
		{rate("r", "a b\r\n\x00%é", 1, 1, 1), "p:rate:r:a%20b%0D%0A%00%25%C3%A9"},
		{rate("r", long, 1, 1, 1), "p:rate:r:%sha256:0ec9eb33e74510bcdd1f2ea55206e82f21649c5c2becbf2b433eb475b34c01bd"},
	} {
		if got := redis.Key("p:", &tc.ask); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.ask.Key, got, tc.want)
		}
	}
}

// FuzzKey makes keys of two names: they are equal when the names are, bounded, and
// printable.
func FuzzKey(f *testing.F) {
	f.Add("a:b", "c", "a", "b:c")
	f.Add("r", "%3A", "r", ":")
	f.Add("r", strings.Repeat("\xff", 200), "r", "%sha256:00")
	f.Fuzz(func(t *testing.T, limit1, who1, limit2, who2 string) {
		a, b := rate(limit1, who1, 1, 1, 1), rate(limit2, who2, 1, 1, 1)
		x, y := redis.Key("p:", &a), redis.Key("p:", &b)
		if (x == y) != (a.Key == b.Key) {
			t.Errorf("%+v is %q, %+v is %q", a.Key, x, b.Key, y)
		}
		for _, key := range []string{x, y} {
			if len(key) > 800 || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Errorf("key %q", key)
			}
		}
	})
}

// FuzzURL reads URLs: what is accepted names a host, and no error tells a password.
func FuzzURL(f *testing.F) {
	for _, seed := range []string{"redis://r", "rediss://u:p@h:1/2", "redis://:p@[::1]:6379", "redis://?skip_verify=1", "unix:///x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, url string) {
		o, err := redis.DialOption(url, "")
		if err != nil {
			if len(url) > 12 && strings.Contains(err.Error(), url) {
				t.Errorf("the error repeats %q", url)
			}
			return
		}
		if len(o.InitAddress) != 1 || strings.HasPrefix(o.InitAddress[0], ":") || (o.TLSConfig != nil) != strings.HasPrefix(strings.ToLower(url), "rediss:") {
			t.Errorf("%q: %v", url, o.InitAddress)
		}
		if o.TLSConfig != nil && o.TLSConfig.InsecureSkipVerify {
			t.Errorf("%q: anyone is trusted", url)
		}
	})
}
