package rpc_test

import (
	"fmt"
	"slices"
	"testing"
)

// BenchmarkEdge is what a unary call costs the gRPC edge, in CPU of its own
// process over loopback, beside a proxy of plain grpc-go that decodes and
// encodes. One operation is a round: some thousand calls through each, one
// after the other, so that both see the same noise. Run it with -benchtime 9x.
func BenchmarkEdge(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		for _, size := range []int32{1, 20, 250} {
			b.Run(fmt.Sprintf("callers=%d/bytes=%d", callers, len(answers()[size])), func(b *testing.B) {
				origin := spawn(b, "backend", "backend", "", 0)
				conns := min(callers, 4)
				compare(b, size, callers, spawn(b, "decode", "decode", origin.addr, conns), spawn(b, "forward", "forward", origin.addr, conns))
			})
		}
	}
}

// compare reports the CPU of each peer, and of all but the first the median
// ratio to the first.
func compare(b *testing.B, size int32, callers int, peers ...*process) {
	const calls = 4000
	for _, p := range peers {
		p.load(b, size, callers, calls/2)
	}
	cpu, ratio := make([][]float64, len(peers)), make([][]float64, len(peers))
	mallocs, bytes, n := make([]uint64, len(peers)), make([]uint64, len(peers)), uint64(0)
	for b.Loop() {
		n += uint64(calls / callers * callers)
		for i, p := range peers {
			before := p.used(b)
			p.load(b, size, callers, calls)
			after := p.used(b)
			us := float64((after.cpu - before.cpu).Nanoseconds()) / 1e3 / float64(calls/callers*callers)
			cpu[i] = append(cpu[i], us)
			ratio[i] = append(ratio[i], us/cpu[0][len(cpu[0])-1])
			mallocs[i] += after.mallocs - before.mallocs
			bytes[i] += after.bytes - before.bytes
		}
	}
	b.ReportMetric(0, "ns/op") // Rounds have no meaning of their own.
	for i, p := range peers {
		b.ReportMetric(median(cpu[i]), p.name+"-µs/call")
		b.ReportMetric(float64(mallocs[i])/float64(n), p.name+"-allocs/call")
		b.ReportMetric(float64(bytes[i])/float64(n), p.name+"-B/call")
		if i > 0 {
			b.ReportMetric(median(ratio[i]), p.name+"/"+peers[0].name)
		}
	}
}

func median(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	return of[len(of)/2]
}
