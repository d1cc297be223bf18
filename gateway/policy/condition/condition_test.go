package condition_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/policy/condition"
)

var (
	echo  = (&testv1.EchoRequest{}).ProtoReflect().Type()
	kinds = (&testv1.Kinds{}).ProtoReflect().Type()
	ada   = &policyv1.Caller{Subject: "ada", Issuer: "https://login", Tenant: "acme", Scopes: []string{"test.audit", "test.read"}}
)

func compile(t testing.TB, md protoreflect.MessageType, expression string) *condition.Program {
	t.Helper()
	p, err := condition.Compile(md, "under-test", expression)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEval(t *testing.T) {
	request := &testv1.EchoRequest{
		Id: "e1", Padding: 7, Delay: durationpb.New(1500),
		Inner: &testv1.Inner{Owner: "ada", Number: 3, Tags: []string{"a", "b"}, Inner: &testv1.Inner{Owner: "grace"}},
		Kinds: &testv1.Kinds{
			FEnum: testv1.Kinds_COLOR_BLUE, FInt64: 1 << 62, MString: map[string]string{"k": "v"},
			WInt32: wrapperspb.Int32(5), Choice: &testv1.Kinds_CString{CString: "chosen"}, Renamed: "r",
		},
	}
	for expression, want := range map[string]bool{
		`true`:                 true,
		`request.padding <= 7`: true,
		`request.padding > 7`:  false,
		`request.inner.owner == principal.subject`:                     true,
		`request.inner.inner.owner == principal.subject`:               false,
		`request.inner.inner.inner.owner == ""`:                        true, // An unset message reads as an empty one.
		`has(request.inner.inner.inner)`:                               false,
		`"test.audit" in principal.scopes`:                             true,
		`"admin" in principal.scopes`:                                  false, // Scopes are what they are: admin stands for none here.
		`principal.tenant == "acme" && principal.issuer != ""`:         true,
		`request.inner.tags.all(x, x in ["a", "b", "c"])`:              true,
		`request.inner.tags.exists_one(x, x == "a")`:                   true,
		`size(request.inner.tags) == 2 && size(request.id) == 2`:       true,
		`request.kinds.f_enum == Kinds.Color.COLOR_BLUE`:               true, // Short, in the package of the request.
		`request.kinds.f_enum == sluice.test.v1.Kinds.Color.COLOR_RED`: false,
		`request.kinds.m_string["k"] == "v"`:                           true,
		`"nope" in request.kinds.m_string`:                             false,
		`request.kinds.w_int32 == 5`:                                   true,
		`request.kinds.w_int64 == null`:                                true,
		`!has(request.kinds.w_any)`:                                    true, // All that can be asked of an Any.
		`request.inner == request.inner.inner`:                         false,
		`request.kinds.w_timestamp == timestamp("1970-01-01T00:00:00Z") || !has(request.kinds.w_timestamp)`: true,
		`has(request.kinds.c_string) && !has(request.kinds.c_int64)`:                                        true,
		`request.delay < duration("1s")`:                                                                    true,
		`request.id.matches("^e[0-9]$")`:                                                                    true,
		`request.kinds.renamed == "r"`:                                                                      true,
	} {
		t.Run(expression, func(t *testing.T) {
			p := compile(t, echo, expression)
			wire, err := proto.Marshal(request)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := p.Parse(wire)
			if err != nil {
				t.Fatal(err)
			}
			for form, m := range map[string]proto.Message{"typed": request, "wire": parsed} {
				if got, err := p.Eval(t.Context(), m, ada); err != nil || got != want {
					t.Errorf("%s: got %v, %v; want %v", form, got, err, want)
				}
			}
		})
	}
}

// What cannot be evaluated is no yes.
func TestEvalErrors(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	many := &testv1.Kinds{}
	for range 20_000 {
		many.RString = append(many.RString, "x")
	}
	slow := &testv1.Kinds{FString: strings.Repeat("é", 1<<19), RString: many.RString}
	for name, tc := range map[string]struct {
		expression string
		request    *testv1.Kinds
		want       string
		slow       bool
	}{
		"no such key":          {`request.m_string["k"] == ""`, &testv1.Kinds{}, "no such key: k", false},
		"index out of bounds":  {`request.r_string[3] == ""`, &testv1.Kinds{}, "index out of bounds: 3", false},
		"overflow":             {`request.f_int64 + 1 > 0`, &testv1.Kinds{FInt64: 1<<63 - 1}, "overflow", false},
		"division by zero":     {`10 / request.f_int32 > 1`, &testv1.Kinds{}, "division by zero", false},
		"conversion":           {`int(request.f_string) > 1`, &testv1.Kinds{FString: "x"}, "type conversion error", false},
		"cost of a loop":       {`request.r_string.all(s, s != "y")`, many, "cost limit exceeded", true},
		"cost of a string":     {`(request.f_string + request.f_string).contains("y")`, &testv1.Kinds{FString: long}, "cost limit exceeded", false},
		"cost of a pattern":    {`request.f_string.matches("` + strings.Repeat("xy", 30) + `")`, &testv1.Kinds{FString: long[:condition.MaxMatchBytes]}, "cost limit exceeded", false},
		"text of a pattern":    {`request.f_string.matches("x")`, &testv1.Kinds{FString: long[:condition.MaxMatchBytes+1]}, "text of 8193 bytes for matches, more than 8192", false},
		"the same, a function": {`matches(request.f_string, "x")`, &testv1.Kinds{FString: long[:condition.MaxMatchBytes+1]}, "text of 8193 bytes for matches, more than 8192", false},
		"the same, not":        {`!request.f_string.matches("^y")`, &testv1.Kinds{FString: long[:condition.MaxMatchBytes+1]}, "text of 8193 bytes for matches, more than 8192", false},
		"a long value":         {`timestamp(request.f_string) > timestamp("2026-01-01T00:00:00Z")`, &testv1.Kinds{FString: strings.Repeat("\x00", 1<<20)}, "invalid RFC 3339 timestamp", false},
		"a long key":           {`request.m_string[request.f_string] == ""`, &testv1.Kinds{FString: strings.Repeat("é", 1<<19)}, "no such key: é", false},
		"time":                 {`request.r_string.all(s, size(request.f_string) > 1 && size(request.f_string) > 2)`, slow, "operation interrupted", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := compile(t, kinds, tc.expression).Eval(t.Context(), tc.request, ada)
			if got || err == nil {
				t.Fatalf("got %v, %v; want an error", got, err)
			}
			// On a slow machine, the time of a long loop may be up before its cost.
			if !strings.Contains(err.Error(), tc.want) && !(tc.slow && interrupted(err)) {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
			if len(err.Error()) > 300 || !utf8.ValidString(err.Error()) { // It goes to a log.
				t.Errorf("error of %d bytes: %.100q", len(err.Error()), err)
			}
		})
	}
	t.Run("caller gone", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		p := compile(t, kinds, `request.r_string.all(s, s != "y")`)
		if got, err := p.Eval(ctx, &testv1.Kinds{RString: many.RString[:100]}, ada); got || err == nil {
			t.Errorf("got %v, %v; want an error", got, err)
		}
	})
}

// interrupted says that the time was up.
func interrupted(err error) bool {
	return err != nil && strings.Contains(err.Error(), "operation interrupted")
}

func TestCompileErrors(t *testing.T) {
	for name, tc := range map[string]struct{ id, expression, want string }{
		"misspelt field":       {"c", `request.padding <= 1 && request.page_siz < 3`, "c:1:32: undefined field 'page_siz'"},
		"misspelt principal":   {"c", `principal.scope == "a"`, "undefined field 'scope'"},
		"misspelt variable":    {"c", `reqest.id == ""`, "undeclared reference to 'reqest'"},
		"misspelt enum":        {"c", `request.kinds.f_enum == Kinds.Color.COLOR_GREEN`, "c:1:30: "},
		"wrong type":           {"c", `request.padding == "1"`, "found no matching overload"},
		"second line":          {"c", "request.padding < 1\n|| request.nope", "c:2:11: undefined field 'nope'"},
		"not a bool":           {"c", `request.padding`, "of type int, not bool"},
		"maybe a bool":         {"c", `request.kinds.w_value`, "not bool"},
		"no type check":        {"c", `dyn(request).nope == 1`, "undeclared reference to 'dyn'"},
		"syntax":               {"c", `request.id ==`, "c:1:14: Syntax error"},
		"empty":                {"c", ` `, "expression is empty"},
		"too long":             {"c", `request.id != "` + strings.Repeat("x", condition.MaxExpressionBytes) + `"`, "more than 4096"},
		"deep":                 {"c", strings.Repeat("(", 500) + "true" + strings.Repeat(")", 500), "recursion"},
		"bad pattern":          {"c", `request.id.matches("(")`, "invalid matches argument"},
		"pattern of a request": {"c", `request.id.matches(request.fail_message)`, "the pattern of matches must be a literal"},
		"pattern of a caller":  {"c", `matches(request.id, principal.subject)`, "the pattern of matches must be a literal"},
		"huge pattern":         {"c", `request.id.matches("((a{1,40}){1,20})")`, "instructions, more than 500"},
		"bad duration":         {"c", `request.delay < duration("1 second")`, "invalid duration argument"},
		"too expensive":        {"c", `[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63,64,65,66,67,68,69,70,71,72,73,74,75,76,77,78,79,80].all(a, [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63,64,65,66,67,68,69,70,71,72,73,74,75,76,77,78,79,80].all(b, a + b > request.padding))`, "more than the 10000"},
		"an any":               {"c", `request.kinds.w_any == null`, "looks into a google.protobuf.Any"},
		"a field of an any":    {"c", `request.kinds.w_any.x == 1`, "looks into a google.protobuf.Any"},
		"anys in a list":       {"c", `[request.kinds].exists(k, [k.w_any].size() == 1)`, "looks into a google.protobuf.Any"},
		"messages with an any": {"c", `request.kinds == request.kinds`, "compares sluice.test.v1.Kinds, which may have a google.protobuf.Any in it"},
		"such, not":            {"c", `request.kinds != request.kinds.f_message`, "compares sluice.test.v1.Kinds, which"},
		"such, in a list":      {"c", `request.kinds in [request.kinds.f_message]`, "compares sluice.test.v1.Kinds, which"},
		"such, made here":      {"c", `EchoResponse{kinds: request.kinds} == EchoResponse{}`, "compares sluice.test.v1.EchoResponse, which"},
		"such, deeper":         {"c", `[[request]] == [[request]]`, "compares list(list(sluice.test.v1.EchoRequest)), which"},
		"nested loops":         {"c", `request.inner.tags.all(a, request.inner.tags.all(b, request.inner.tags.all(c, a + b != c)))`, "comprehension exceeds nesting limit"},
		"extension libraries":  {"c", `request.id.replace("a", "b") == ""`, "undeclared reference to 'replace'"},
		"no id":                {"", `true`, "id must be"},
		"id with a space":      {"a b", `true`, "id must be"},
		"id with a newline":    {"a\nb", `true`, "id must be"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := condition.Compile(echo, tc.id, tc.expression)
			if err == nil || p != nil {
				t.Fatalf("compiled")
			}
			if !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "condition \"") {
				t.Errorf("error does not say %q:\n%v", tc.want, err)
			}
		})
	}
}

func bytesField(n protowire.Number, parts ...[]byte) []byte {
	var body []byte
	for _, p := range parts {
		body = append(body, p...)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), body)
}

func varint(n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
}

// The gateway must see what the service will see, however a caller writes it.
func TestWireAgreesWithTheParser(t *testing.T) {
	cat := func(parts ...[]byte) (out []byte) {
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	padding := func(n uint64) []byte { return varint(7, n) }
	inner := func(parts ...[]byte) []byte { return bytesField(8, parts...) }
	owner := func(s string) []byte { return bytesField(1, []byte(s)) }
	const expression = `request.padding <= 100 && request.inner.owner == "ada" && request.inner.tags.all(t, t != "secret")`
	p := compile(t, echo, expression)
	for name, tc := range map[string]struct {
		wire []byte
		want bool
		bad  bool
	}{
		"plain":                        {wire: cat(padding(1), inner(owner("ada"))), want: true},
		"last scalar wins, small":      {wire: cat(padding(1000), padding(1), inner(owner("ada"))), want: true},
		"last scalar wins, large":      {wire: cat(padding(1), inner(owner("ada")), padding(1000))},
		"overlong varint":              {wire: cat([]byte{0x38, 0x81, 0x80, 0x80, 0x00}, inner(owner("ada"))), want: true},
		"64 bits cut to 32":            {wire: cat(padding(1<<32|1000), inner(owner("ada")))},
		"64 bits cut to 32, small":     {wire: cat(padding(1<<32|1), inner(owner("ada"))), want: true},
		"split message":                {wire: cat(inner(owner("ada")), inner(bytesField(3, []byte("t")))), want: true},
		"split list":                   {wire: cat(inner(owner("ada"), bytesField(3, []byte("t"))), inner(bytesField(3, []byte("secret"))))},
		"owner, then another":          {wire: cat(inner(owner("ada")), inner(owner("bob")))},
		"another, then owner":          {wire: cat(inner(owner("bob")), inner(owner("ada"))), want: true},
		"another, then empty":          {wire: cat(inner(owner("ada")), inner(owner("")))},
		"wrong wire type is unknown":   {wire: cat(padding(1), bytesField(7, []byte{0xe8, 0x07}), inner(owner("ada"))), want: true},
		"unknown fields":               {wire: cat(inner(owner("ada")), bytesField(99, []byte("x"))), want: true},
		"nothing":                      {},
		"bad utf8":                     {wire: inner(owner("ad\xff")), bad: true},
		"truncated":                    {wire: []byte{0x42, 0x05}, bad: true},
		"stray end group":              {wire: cat(inner(owner("ada")), []byte{0x0c}), bad: true},
		"deeper than the gateway goes": {wire: deep(200), bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := compile(t, echo, "true").Parse(tc.wire)
			if tc.bad != errors.Is(err, condition.ErrMalformed) {
				t.Fatalf("Parse says %v", err)
			}
			if tc.bad {
				return
			}
			var service testv1.EchoRequest // As the service reads it.
			if err := proto.Unmarshal(tc.wire, &service); err != nil {
				t.Fatal(err)
			}
			for form, m := range map[string]proto.Message{"wire": m, "service": &service} {
				if got, err := p.Eval(t.Context(), m, ada); err != nil || got != tc.want {
					t.Errorf("%s: got %v, %v; want %v", form, got, err, tc.want)
				}
			}
		})
	}
}

func deep(n int) []byte {
	var b []byte
	for range n {
		b = bytesField(4, b)
	}
	return bytesField(8, b)
}

// A service whose code is not linked in has dynamic messages.
func TestDynamicMessages(t *testing.T) {
	str := descriptorpb.FieldDescriptorProto_TYPE_STRING
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("t/v1/dynamic.proto"), Package: proto.String("t.v1"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Ask"), Field: []*descriptorpb.FieldDescriptorProto{
			{Name: proto.String("who"), Number: proto.Int32(1), Type: &str, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()},
		}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ask := fd.Messages().Get(0)
	if _, err := condition.Compile(dynamicpb.NewMessageType(ask), "c", `request.whom == ""`); err == nil {
		t.Error("a misspelt field compiled")
	}
	p := compile(t, dynamicpb.NewMessageType(ask), `request.who == principal.subject`)
	typed := dynamicpb.NewMessage(ask)
	typed.Set(ask.Fields().ByName("who"), protoreflect.ValueOfString("ada"))
	wire, err := proto.Marshal(typed)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := p.Parse(wire)
	if err != nil {
		t.Fatal(err)
	}
	for form, m := range map[string]proto.Message{"typed": typed, "wire": parsed} {
		if got, err := p.Eval(t.Context(), m, ada); err != nil || !got {
			t.Errorf("%s: got %v, %v", form, got, err)
		}
	}
}

func TestProgramSaysWhatItIs(t *testing.T) {
	p, err := condition.Compile(echo, "small-pages", `request.padding < 3`)
	if err != nil {
		t.Fatal(err)
	}
	if p.ID() != "small-pages" || p.Expression() != `request.padding < 3` {
		t.Errorf("%q %q", p.ID(), p.Expression())
	}
}
