package transcode_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-gateway/sluice/gateway/transcode"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

// TestDecodeDepth asks for nesting around the limit, in every way that there is.
func TestDecodeDepth(t *testing.T) {
	set := transcode.New(transcode.Options{Types: protoregistry.GlobalTypes, MaxDepth: testDepth})
	const inAny = `{"@type":"google.protobuf.Any","value":`
	for _, c := range []struct {
		like               proto.Message
		before, end, after string
	}{
		{&testv1.Kinds{}, `{"fMessage":`, `{}`, `}`},
		{&testv1.Inner{}, `{"inner":`, `{"tags":["a"]}`, `}`},
		{&testv1.Legacy{}, `{"id":"","cMessage":`, `{"id":""}`, `}`},
		{&testv1.Edition{}, `{"required":"","delimiteds":[`, `{"required":""}`, `]}`},
		{&testv1.Edition{}, `{"required":"","children":{"a":`, `{"required":""}`, `}}`},
		{&testv1.Edition{}, `{"required":"","delimited":`, `{"required":"","level":3}`, `}`},
		{&structpb.Value{}, `[`, `1`, `]`},
		{&structpb.Value{}, `{"a":`, `null`, `}`},
		{&structpb.Struct{}, `{"a":[`, `{}`, `]}`},
		{&structpb.ListValue{}, `[{"a":`, `[]`, `}]`},
		{&anypb.Any{}, inAny, `{}`, `}`},
		{&anypb.Any{}, `{"value":`, `{}`, `,"@type":"google.protobuf.Any"}`},
		{&anypb.Any{}, `{"@type":"sluice.test.v1.Kinds","wAny":`, `{}`, `}`},
		{&anypb.Any{}, `{"wAny":`, `{}`, `,"@type":"sluice.test.v1.Kinds"}`},
		{&anypb.Any{}, `{"@type":"sluice.test.v1.Kinds","wAny":{"@type":"google.protobuf.Struct","value":{"a":[`, `1`, `]}}}`},
	} {
		taken := 0
		for n := range 2 * testDepth {
			doc := strings.Repeat(c.before, n) + c.end + strings.Repeat(c.after, n)
			if sameDecoding(t, planOf(t, set, c.like), c.like, []byte(doc)) {
				taken++
			}
		}
		if strings.Count(c.before, "Struct") == 0 && (taken < 3 || taken > testDepth+1) {
			t.Errorf("%s: %d depths were taken", c.before, taken)
		}
	}
	for n := range 2 * testDepth { // What is no message, inside an Any, counts as well.
		for _, end := range []string{`"@type":"sluice.test.v1.Kinds"`, `"@type":"google.protobuf.Value"`} {
			doc := `{"value":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `,` + end + `}`
			sameDecoding(t, planOf(t, set, &anypb.Any{}), &anypb.Any{}, []byte(doc))
		}
		doc := strings.Repeat(`{"@type":"google.protobuf.Any","value":`, 2) + `{"@type":"sluice.test.v1.Inner","tags":["a"],"inner":` +
			strings.Repeat(`{"inner":`, n) + `{}` + strings.Repeat(`}`, n+3)
		sameDecoding(t, planOf(t, set, &anypb.Any{}), &anypb.Any{}, []byte(doc))
	}
}

// oddFile holds what the protos of the repository have not: every kind of key,
// names that clash or need escapes, and more fields than a word has bits.
func oddFile(t *testing.T) protoreflect.FileDescriptor {
	t.Helper()
	var b strings.Builder
	b.WriteString(`name: "odd.proto" package: "odd" syntax: "proto2" message_type { name: "Odd" `)
	field := func(name, json string, n int, label, typ string) {
		fmt.Fprintf(&b, "field { name: %q json_name: %q number: %d label: LABEL_%s %s }\n", name, json, n, label, typ)
	}
	keys := []string{"INT32", "SINT32", "SFIXED32", "INT64", "SINT64", "SFIXED64", "UINT32", "FIXED32", "UINT64", "FIXED64", "BOOL", "STRING"}
	for i, k := range keys {
		field(fmt.Sprintf("k%d", i), fmt.Sprintf("k%d", i), 1+i, "REPEATED", fmt.Sprintf(`type: TYPE_MESSAGE type_name: ".odd.Odd.K%dEntry"`, i))
		fmt.Fprintf(&b, `nested_type { name: "K%dEntry" options { map_entry: true }
			field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_%s }
			field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".odd.Odd" } }`, i, k)
	}
	field("quote", `a"b`, 20, "OPTIONAL", "type: TYPE_INT32")
	field("slash", `a\b`, 21, "OPTIONAL", "type: TYPE_INT32")
	field("line", "a\nb", 22, "OPTIONAL", "type: TYPE_INT32")
	field("umlaut", "ä", 23, "OPTIONAL", "type: TYPE_INT32")
	field("bracket", "[odd.x]", 24, "OPTIONAL", "type: TYPE_INT32")
	field("typed", "@type", 25, "OPTIONAL", "type: TYPE_STRING")
	field("swap_a", "swap_b", 26, "OPTIONAL", "type: TYPE_INT32")
	field("swap_b", "swap_a", 27, "OPTIONAL", "type: TYPE_INT32")
	for i := range 140 {
		label := "OPTIONAL"
		if i == 139 {
			label = "REQUIRED"
		}
		choice := "type: TYPE_INT32"
		if i < 120 {
			choice += fmt.Sprintf(" oneof_index: %d", i/4)
		}
		field(fmt.Sprintf("n%d", i), fmt.Sprintf("n%d", i), 1000+i, label, choice)
	}
	for i := range 30 {
		fmt.Fprintf(&b, `oneof_decl { name: "choice%d" } `, i)
	}
	b.WriteString("}")
	var fdp descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(b.String()), &fdp); err != nil {
		t.Fatal(err)
	}
	fd, err := protodesc.FileOptions{AllowUnresolvable: true}.New(&fdp, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestDecodeOdd holds AppendWire against protojson over a message of oddities.
func TestDecodeOdd(t *testing.T) {
	like := dynamicpb.NewMessage(oddFile(t).Messages().ByName("Odd"))
	p := planOf(t, transcode.New(transcode.Options{Types: protoregistry.GlobalTypes, MaxDepth: testDepth}), like)
	taken := 0
	ask := func(members string) {
		if sameDecoding(t, p, like, []byte(`{"n139":1`+members+`}`)) {
			taken++
		}
	}
	for i := range 12 {
		for _, key := range []string{
			"0", "1", "-1", "+1", "-0", "01", "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296", "9223372036854775807", "9223372036854775808",
			"-9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616", "true", "false", "", " 1", "1.0", "1e1", "x",
		} {
			ask(fmt.Sprintf(`,"k%d":{"%s":{"n139":2}}`, i, key))
			ask(fmt.Sprintf(`,"k%d":{"%s":{"n139":2},"1":{"n139":2}}`, i, key))
		}
	}
	for _, name := range []string{
		`a\"b`, `a"b`, `a\\b`, `a\b`, `a\nb`, "a\nb", `ä`, `\u00e4`, `[odd.x]`, `bracket`, `swap_a`, `swap_b`, `typed`, `quote`, `slash`, `line`, `umlaut`, `@type`,
	} {
		ask(`,"` + name + `":1`)
		ask(`,"` + name + `":"1"`)
	}
	ask(`,"swap_a":1,"swap_b":2`)
	ask(`,"ä":1,"[odd.x]":1`) // Where the field of that name would be guessed.
	for i := range 140 {
		ask(fmt.Sprintf(`,"n%d":1`, i))
		ask(fmt.Sprintf(`,"n%d":1,"n%d":1`, i, (i+64)%140))
		ask(fmt.Sprintf(`,"n%d":1,"n%d":1`, i, (i+2)%140))
		ask(fmt.Sprintf(`,"n%d":1,"n%d":1`, i, i))
	}
	if taken < 300 {
		t.Errorf("%d documents were taken", taken)
	}
	for _, doc := range []string{`{}`, `{"n138":1}`, `{"n139":null}`, `{"n139":1,"k0":{"1":{}}}`} {
		if sameDecoding(t, p, like, []byte(doc)) {
			t.Errorf("%s lacks a required field, and was taken", doc)
		}
	}
}

// TestDecodeLargeMaps has maps of more keys than are compared one by one, in each
// other and beside each other, with and without one that comes twice.
func TestDecodeLargeMaps(t *testing.T) {
	p := decodePlans(t)[4] // A Value.
	for _, n := range []int{7, 8, 9, 10, 15, 16, 17, 100, 1000} {
		for _, twice := range []int{-1, 0, n / 2, n - 1} {
			var b strings.Builder
			for i := range n {
				inner := `1`
				if i%10 == 3 { // A value that grows the entry, and moves the key, too.
					inner = `{"` + strings.Repeat("x", 10*i) + `":` + largeMap(20) + `}`
				}
				fmt.Fprintf(&b, `"key%d":%s,`, i, inner)
			}
			last := "other"
			if twice >= 0 {
				last = fmt.Sprint("key", twice)
			}
			doc := `{` + b.String() + `"` + last + `":2}`
			if got := sameDecoding(t, p, &structpb.Value{}, []byte(doc)); got != (twice < 0) {
				t.Errorf("%d keys, %q behind them: taken: %v", n, last, got)
			}
		}
	}
}

// TestDecodeField holds that the plan of a field reads its value in place of the
// whole: what HttpRule.body names.
func TestDecodeField(t *testing.T) {
	p := planOf(t, transcode.New(transcode.Options{Types: protoregistry.GlobalTypes}), &testv1.Legacy{})
	for _, c := range []struct{ field, in, whole string }{
		{"note", `"a"`, `{"note":"a"}`}, {"loose", `[1,2]`, `{"loose":[1,2]}`}, {"m_fit", `{"a":0}`, `{"mFit":{"a":0}}`},
		{"c_message", `{"id":"x"}`, `{"cMessage":{"id":"x"}}`}, {"part", `{}`, `{"part":{}}`}, {"note", `null`, `{}`},
	} {
		field, err := p.Field(protoreflect.Name(c.field))
		if err != nil {
			t.Fatal(err)
		}
		wire, err := field.AppendWire(nil, []byte(c.in))
		if err != nil {
			t.Errorf("%s %s: %v", c.field, c.in, err)
			continue
		}
		whole, err := p.AppendWire(nil, []byte(`{"id":"",`+c.whole[1:]))
		if c.whole == "{}" {
			whole, err = p.AppendWire(nil, []byte(`{"id":""}`))
		}
		if err != nil || "\n\x00"+string(wire) != string(whole) {
			t.Errorf("%s %s: %x, and the whole: %x, %v", c.field, c.in, wire, whole, err)
		}
	}
	field, err := p.Field("loose")
	if err != nil {
		t.Fatal(err)
	}
	_, err = field.AppendWire(nil, []byte(`[1,"x"]`))
	var bad *transcode.Error
	if !errors.As(err, &bad) || bad.Field != "loose[1]" {
		t.Errorf("%v", err)
	}
}

// TestDecodeAtOnce has many calls meet types of Anys and extensions for the first
// time, at once.
func TestDecodeAtOnce(t *testing.T) {
	for range 20 {
		set := transcode.New(transcode.Options{Types: protoregistry.GlobalTypes, MaxDepth: testDepth})
		p := planOf(t, set, &anypb.Any{})
		var wg sync.WaitGroup
		for i := range 8 {
			name := []string{"Kinds", "Legacy", "Edition", "Inner"}[i%4]
			wg.Go(func() {
				doc := `{"@type":"sluice.test.v1.` + name + `"}`
				if name == "Legacy" {
					doc = `{"@type":"sluice.test.v1.Legacy","[sluice.test.v1.x_legacy]":{"[sluice.test.v1.x_note]":"a"}}`
				}
				if _, err := p.AppendWire(nil, []byte(doc)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

// TestDecodeTypes holds that Anys and extensions are looked up where the Set says.
func TestDecodeTypes(t *testing.T) {
	set := transcode.New(transcode.Options{Types: dynamicpb.NewTypes(&protoregistry.Files{})})
	for like, doc := range map[proto.Message]string{
		&anypb.Any{}:     `{"@type":"type.googleapis.com/google.protobuf.Empty"}`,
		&testv1.Legacy{}: `{"id":"a","[sluice.test.v1.x_note]":"b"}`,
	} {
		if _, err := planOf(t, set, like).AppendWire(nil, []byte(doc)); err == nil {
			t.Errorf("%s: taken by a Set that knows no types", doc)
		}
	}
}
