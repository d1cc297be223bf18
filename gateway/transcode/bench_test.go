package transcode

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// loads is the data of the benchmarks.
func loads() []struct {
	name string
	m    proto.Message
} {
	texts := &testv1.Inner{Owner: strings.Repeat("Texts of some length. ", 40)}
	for i := range 100 {
		texts.Tags = append(texts.Tags, fmt.Sprintf("a tag of the usual kind, number %d", i), `with "quotes" in it`, "mit Umläuten, früher öfter")
	}
	numbers := &testv1.Kinds{}
	for i := range 300 {
		numbers.RDouble = append(numbers.RDouble, float64(i)*1.37, float64(i))
		numbers.RInt32 = append(numbers.RInt32, int32(i*i*i))
		numbers.RInt64 = append(numbers.RInt64, math.MaxInt64/int64(i+1))
	}
	kinds := scalars()
	return []struct {
		name string
		m    proto.Message
	}{
		{"user", aUser()}, {"list20", orders(20)}, {"list100", orders(100)}, {"strings", texts}, {"numbers", numbers}, {"kinds", kinds},
	}
}

// cpuTime reports the process's CPU time, which says more than the clock where others
// use the machine, too.
func cpuTime(b *testing.B) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

// BenchmarkAppendJSON counts MB/s of JSON. The peers do the same work their way:
// protojson parses into the generated type first; encoding/json begins with a
// struct that is there already.
func BenchmarkAppendJSON(b *testing.B) {
	for _, l := range loads() {
		wire := must(b, l.m)
		p := planOf(b, l.m)
		out, err := p.AppendJSON(nil, wire)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(l.name+"/sluice", func(b *testing.B) {
			b.SetBytes(int64(len(out)))
			b.ReportAllocs()
			defer cpuTime(b)()
			for b.Loop() {
				out, _ = p.AppendJSON(out[:0], wire)
			}
		})
		b.Run(l.name+"/protojson", func(b *testing.B) {
			b.SetBytes(int64(len(out)))
			b.ReportAllocs()
			defer cpuTime(b)()
			buf := make([]byte, 0, 2*len(out))
			for b.Loop() {
				m := l.m.ProtoReflect().New().Interface()
				if proto.Unmarshal(wire, m) != nil {
					b.Fatal("not parsed")
				}
				buf, _ = protojson.MarshalOptions{EmitDefaultValues: true}.MarshalAppend(buf[:0], m)
			}
		})
		twin, ok := twins(l.m)
		if !ok {
			continue
		}
		b.Run(l.name+"/encoding_json", func(b *testing.B) {
			b.SetBytes(int64(len(out)))
			b.ReportAllocs()
			defer cpuTime(b)()
			for b.Loop() {
				if _, err := json.Marshal(twin); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCareful is the price of an order that cannot be streamed.
func BenchmarkCareful(b *testing.B) {
	m := orders(20)
	wire := must(b, m)
	wire = append(wire, must(b, orders(0))...) // The page's token, again.
	p := planOf(b, m)
	out, err := p.AppendJSON(nil, wire)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(out)))
	b.ReportAllocs()
	defer cpuTime(b)()
	for b.Loop() {
		out, _ = p.AppendJSON(out[:0], wire)
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, l := range loads() {
		wire := must(b, l.m)
		p := planOf(b, l.m)
		b.Run(l.name, func(b *testing.B) {
			b.SetBytes(int64(len(wire)))
			b.ReportAllocs()
			defer cpuTime(b)()
			for b.Loop() {
				if err := p.Check(wire); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
