package condition_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/policy/condition"
)

// Whatever is written beside an RPC, it compiles or is refused; and what
// compiles answers every request, without a panic, and the same for both forms
// of it.
func FuzzCompile(f *testing.F) {
	for _, expression := range []string{
		`request.f_int32 <= 100 || "admin" in principal.scopes`,
		`request.f_string == principal.subject && has(request.f_message)`,
		`request.r_string.all(s, s.startsWith("a")) && request.m_string["k"] != ""`,
		`has(request.w_any) || request.w_struct.x == 1 || request.w_value == "s"`,
		`request.w_timestamp < timestamp("2026-01-01T00:00:00Z") && request.w_duration > duration("1s")`,
		`request.f_enum == Kinds.Color.COLOR_RED ? size(request.r_message) > 1 : request.m_bool[true] == 1`,
		`request.f_string.matches("^[a-z]+$") || string(request.f_bytes) == "" || request.f_double / 0.0 > 1.0`,
		`type(request.w_list) == list && request.r_int32.map(x, x * 2).exists(x, x == 4)`,
		`[1, 2].map(x, request.r_string.filter(y, size(y) == x)).all(z, size(z) < 3)`,
		"request.\x00", `((((`, `request . f_int32`, `'\u{110000}' == request.f_string`, `Kinds{f_int32: 1} == request`,
	} {
		f.Add(expression, []byte{})
		f.Add(expression, []byte{0x18, 0x05, 0x72, 0x01, 'a', 0xba, 0x01, 0x01, 'b'})
	}
	f.Fuzz(func(t *testing.T, expression string, wire []byte) {
		p, err := condition.Compile(kinds, "fuzzed", expression)
		if err != nil {
			return
		}
		anyone := &policyv1.Caller{}
		_, _ = p.Eval(t.Context(), &testv1.Kinds{}, anyone) // It may fail, and not panic.
		parsed, err := p.Parse(wire)
		if err != nil {
			return
		}
		typed := &testv1.Kinds{}
		if err := proto.Unmarshal(wire, typed); err != nil {
			t.Fatalf("the parser refuses what Parse takes: %v", err)
		}
		a, errA := p.Eval(t.Context(), parsed, ada)
		b, errB := p.Eval(t.Context(), typed, ada)
		if interrupted(errA) || interrupted(errB) { // Time is not the same twice.
			return
		}
		if a != b || (errA == nil) != (errB == nil) {
			t.Errorf("%q: %v, %v from the wire, %v, %v typed", expression, a, errA, b, errB)
		}
	})
}

func BenchmarkEval(b *testing.B) {
	request := &testv1.ListTenantThingsRequest{TenantId: "acme", PageSize: 50}
	md := request.ProtoReflect().Type()
	wire, err := proto.Marshal(request)
	if err != nil {
		b.Fatal(err)
	}
	for name, expression := range map[string]string{
		"compare": `request.page_size <= 100 || "test.audit" in principal.scopes`,
		"loop":    `principal.scopes.exists(s, s.startsWith("test."))`,
	} {
		p := compile(b, md, expression)
		for form, message := range map[string]func() (proto.Message, error){
			"typed": func() (proto.Message, error) { return request, nil },
			"wire":  func() (proto.Message, error) { return p.Parse(wire) },
		} {
			b.Run(name+"/"+form, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					m, err := message()
					if err != nil {
						b.Fatal(err)
					}
					if yes, err := p.Eval(b.Context(), m, ada); err != nil || !yes {
						b.Fatal(yes, err)
					}
				}
			})
		}
	}
}

// What the most expensive request that CostLimit lets through costs us.
func BenchmarkCostLimit(b *testing.B) {
	request := &testv1.Kinds{}
	for range 20_000 {
		request.RString = append(request.RString, "x")
	}
	p := compile(b, kinds, `request.r_string.all(s, s != "y")`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Eval(b.Context(), request, ada); err == nil {
			b.Fatal("within the limit")
		}
	}
}

// What the costliest text that a pattern is held against costs us: the pattern
// is of the largest kind, and every character begins a match.
func BenchmarkMatches(b *testing.B) {
	request := &testv1.Kinds{FString: strings.Repeat("a", condition.MaxMatchBytes)}
	p := compile(b, kinds, `request.f_string.matches("[a-z0-9.]{1,60}@[a-z0-9.]{1,60}[.][a-z]{2,20}$")`)
	b.ReportAllocs()
	for b.Loop() {
		if yes, err := p.Eval(b.Context(), request, ada); err != nil || yes {
			b.Fatal(yes, err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	md := (&testv1.ListTenantThingsRequest{}).ProtoReflect().Type()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := condition.Compile(md, "c", `request.page_size <= 100 || "test.audit" in principal.scopes`); err != nil {
			b.Fatal(err)
		}
	}
}
