//go:build !race

package httpedge

import (
	"net/http"
	"testing"
)

// Encoders and the room for what they write are kept: compressing allocates
// nothing.
func TestEncodeAllocatesNothing(t *testing.T) {
	c := newTestCompressor(t, CompressionOptions{})
	for name, body := range map[string][]byte{"user": oneUser, "20 orders": orders(20), "100 orders": orders(100)} {
		for _, accept := range [][]string{nil, {"gzip"}, {"gzip, deflate, br, zstd"}} {
			h := http.Header{"Content-Type": {"application/json"}}
			encode := func() {
				delete(h, "Vary")
				delete(h, "Content-Encoding")
				var p Packing
				p.Compress(c, h, accept, body)
				p.Release(nil)
			}
			for range 50 { // The tables of an encoder grow with its first bodies.
				encode()
			}
			if n := testing.AllocsPerRun(50, encode); n != 0 {
				t.Errorf("%s, %q: %v allocations", name, accept, n)
			}
		}
	}
}
