//go:build !race

package transcode_test

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sluice-gateway/sluice/gateway/transcode"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// TestDecodeAllocations holds that AppendWire allocates nothing once its buffers
// are there, but for what an Any holds.
func TestDecodeAllocations(t *testing.T) {
	set := transcode.New(transcode.Options{Types: protoregistry.GlobalTypes})
	order, kinds := planOf(t, set, &orderv1.CreateOrderRequest{}), planOf(t, set, &testv1.Kinds{})
	for name, c := range map[string]struct {
		p    *transcode.Plan
		body []byte
	}{
		"an order of 5 lines": {order, orderBody(5)},
		"100 kB":              {order, orderBody(780)},
		"escapes":             {kinds, []byte(`{"fString":"\u00e9\n\ud834\udd1e","rString":["a","\"b\""],"fBytes":"+\/+\/"}`)},
		"numbers":             {kinds, []byte(`{"fInt32":1e2,"fInt64":"-5","fDouble":1.5e300,"fFloat":"Infinity","rDouble":[1.25,-0.1234567890123,"NaN"],"fEnum":"COLOR_BLUE"}`)},
		"well-known types": {kinds, []byte(`{"wTimestamp":"2026-01-31T12:00:00.5+01:00","wDuration":"1.5s","wMask":"a.bC,d","wInt64":"7","wEmpty":{},` +
			`"wStruct":{"a":[1,null,{"b":"c"}]},"wValue":true,"mwTimestamp":{"x":"2026-01-31T12:00:00Z"}}`)},
		"a large map": {kinds, []byte(largeMap(400))},
	} {
		var buf []byte
		got := testing.AllocsPerRun(200, func() {
			var err error
			if buf, err = c.p.AppendWire(buf[:0], c.body); err != nil {
				t.Fatal(err)
			}
		})
		if got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}
