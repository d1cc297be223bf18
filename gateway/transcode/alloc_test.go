//go:build !race

package transcode

import (
	"testing"

	"google.golang.org/protobuf/proto"
)

// TestNoAllocations: the race detector makes pools forget, so not under it.
func TestNoAllocations(t *testing.T) {
	k := full(t)
	withAny := proto.Clone(k)
	k.WAny = nil
	for name, m := range map[string]proto.Message{
		"a user": aUser(), "20 orders": orders(20), "every kind": scalars(), "maps and Struct, too": k, "an Any, too": withAny,
		"groups and extensions": legacy(),
	} {
		wire := must(t, m)
		p := planOf(t, m)
		out, err := p.AppendJSON(nil, wire)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(200, func() { out, _ = p.AppendJSON(out[:0], wire) }); n != 0 {
			t.Errorf("%s: AppendJSON allocates %v times", name, n)
		}
		if n := testing.AllocsPerRun(200, func() { err = p.Check(wire) }); n != 0 || err != nil {
			t.Errorf("%s: Check allocates %v times, %v", name, n, err)
		}
	}
	p := planOf(t, orders(1))
	mask, err := p.Mask("orders.orderId,orders.lines.sku")
	if err != nil {
		t.Fatal(err)
	}
	wire := must(t, orders(20))
	out := make([]byte, 0, 1<<16)
	if n := testing.AllocsPerRun(200, func() { out, _ = p.AppendMasked(out[:0], wire, mask) }); n != 0 {
		t.Errorf("AppendMasked allocates %v times", n)
	}
}
