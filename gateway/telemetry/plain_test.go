package telemetry

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// TestPlainLine: what is written without zap is byte by byte what zap would have
// written, and what may not be written without it is left to zap.
func TestPlainLine(t *testing.T) {
	o := NewOutput(nil)
	for value, plain := range map[string]bool{
		"": true, "ada": true, " !#[]^~": true, "<&>'/": true,
		`"`: false, `\`: false, "\x1f": false, "\n": false, "\x7f": false, "é": false, "\u2028": false, "\xff": false, "a\x00": false,
	} {
		for place := range 6 {
			r := Request{Edge: policy.EdgeREST, ID: "id", Method: "GET", Route: "/v1/a", RPC: "s/M", Client: netip.MustParseAddr("2001:db8::1"),
				Call: &policy.Call{Principal: &policy.Principal{Subject: "ada"}, DeniedBy: "x", Why: "y", Upstream: "z"}, BytesIn: 1 << 40, BytesOut: -1}
			*[]*string{&r.ID, &r.Route, &r.RPC, &r.Call.Principal.Subject, &r.Call.Why, &r.Call.Upstream}[place] = value
			for _, took := range []time.Duration{0, time.Microsecond, 1234567, time.Hour + 999*time.Microsecond} {
				p := linePool.Get().(*pooledLine)
				p.line = line{request: &r, code: "200", end: time.Date(2026, 1, 2, 3, 4, 5, int(took)%1e9, time.FixedZone("", 3600)), took: took, suppressed: 3}
				got, ok := p.plain.of(&p.line)
				if ok != plain {
					t.Errorf("%q in place %d: plain %t", value, place, ok)
				}
				want, err := o.encoder.EncodeEntry(zapcore.Entry{Time: p.end, LoggerName: "INFO", Message: message}, p.field[:])
				if err != nil {
					t.Fatal(err)
				}
				if ok && string(got) != want.String() {
					t.Errorf("-zap +own\n%s%s", fmt.Sprint(want), got)
				}
			}
		}
	}
}
