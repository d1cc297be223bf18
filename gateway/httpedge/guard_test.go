package httpedge

import (
	"math"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestParseTimeout(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "5u": 5 * time.Microsecond, "6n": 6,
		"0S": 0, "00000001S": time.Second, "99999999n": 99999999, "99999999H": math.MaxInt64, "99999999M": 99999999 * time.Minute,
	} {
		if got, err := parseTimeout(in); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"S", "1", "1s", "1h", "-1S", "+1S", "1.5S", " 1S", "1 S", "1S ", "999999999S", "0x1S", "1e3S", "١S", "soon", "\x00"} {
		if got, err := parseTimeout(in); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}

func FuzzParseTimeout(f *testing.F) {
	f.Add("1S")
	f.Add("99999999H")
	f.Fuzz(func(t *testing.T, in string) {
		if in == "" { // An absent header.
			return
		}
		if d, err := parseTimeout(in); d < 0 || (err != nil && status.Code(err) != codes.InvalidArgument) {
			t.Errorf("%v, %v", d, err)
		}
	})
}
