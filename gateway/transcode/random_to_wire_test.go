package transcode

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sluice-gateway/sluice/tools/effort"
)

// TestRandomToWire holds AppendWire against protojson, with messages of all editions
// that are made up, and documents that are changed. The seed is fixed; FuzzRandomToWire
// goes where this does not.
func TestRandomToWire(t *testing.T) {
	taken, refused := 0, 0
	for seed := range effort.Rounds(40, 100) {
		a, b := randomToWire(t, uint64(seed), 10) //nolint:gosec // Not negative.
		taken, refused = taken+a, refused+b
	}
	if t.Logf("%d taken, %d refused", taken, refused); taken < 400 || refused < 400 {
		t.Errorf("%d taken and %d refused: the test no longer asks both sides", taken, refused)
	}
}

func FuzzRandomToWire(f *testing.F) {
	for seed := range uint64(3) {
		f.Add(1000 + seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { randomToWire(t, seed, 15) })
}

func randomToWire(t *testing.T, seed uint64, rounds int) (taken, refused int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 2))
	w := newWorld(t, r)
	set, names := New(Options{Types: w.types}), namesIn(w)
	for range rounds {
		md := w.msgs[r.IntN(len(w.msgs))]
		p, err := set.Plan(md)
		if err != nil {
			t.Fatal(err)
		}
		text := randomJSON(r, w, md)
		for i := range 4 {
			data := text
			if i > 0 {
				data = mutateJSON(r, text, names)
			}
			if sameWire(t, w, p, data) {
				taken++
			} else {
				refused++
			}
			if t.Failed() {
				t.Fatalf("seed %d: %s %q\n%v", seed, md.FullName(), data, w)
			}
		}
	}
	return taken, refused
}

func namesIn(w *world) []string {
	names := []string{"[rand.ext0]", "[rand.ext1]", "[rand.ext9]", "@type", "value"}
	for _, md := range w.msgs {
		for i := range md.Fields().Len() {
			f := md.Fields().Get(i)
			names = append(names, f.JSONName(), string(f.Name()), strings.ToLower(f.JSONName()))
		}
	}
	return names
}

// randomJSON is a message in one of the forms that protojson writes.
func randomJSON(r *rand.Rand, w *world, md protoreflect.MessageDescriptor) []byte {
	for range 20 {
		g := &wireMaker{Rand: r, w: w, odd: []int{0, 0, 20}[r.IntN(3)], left: 40}
		m, ok, err := parseDynamic(w, md, g.message(md, 3))
		if !ok || err != nil {
			continue
		}
		o := protojson.MarshalOptions{
			EmitDefaultValues: r.IntN(2) == 0, Resolver: w.types, UseProtoNames: r.IntN(4) == 0,
			UseEnumNumbers: r.IntN(4) == 0, Multiline: r.IntN(4) == 0,
		}
		if text, ok, err := protoJSON(o, m); ok && err == nil {
			return text
		}
	}
	return []byte("{}")
}

// emptyExponent is what protojson takes, and JSON does not.
var emptyExponent = regexp.MustCompile(`[0-9][eE][-+]?([^0-9+-]|$)`)

// sameWire compares what AppendWire makes of a document with what protojson does, and
// says whether it is taken.
func sameWire(t *testing.T, w *world, p *Plan, data []byte) bool {
	t.Helper()
	want := dynamicpb.NewMessage(p.md)
	wantErr := protojson.UnmarshalOptions{RecursionLimit: 64, Resolver: w.types}.Unmarshal(data, want)
	out, err := p.AppendWire([]byte("before"), bytes.Clone(data))
	if !bytes.HasPrefix(out, []byte("before")) {
		t.Errorf("what was in dst is gone: %q", out)
		return false
	}
	var refusal *Error
	switch {
	case err == nil && wantErr == nil:
	case err != nil && (!errors.As(err, &refusal) || refusal.Offset > len(data) || refusal.Line < 1 || refusal.Column < 1):
		t.Errorf("an error that tells a client nothing: %#v", err)
		return false
	case err != nil && (wantErr != nil || emptyExponent.Match(data)):
		return false
	default:
		t.Errorf("AppendWire says %v, protojson %v", err, wantErr)
		return false
	}
	got, ok, err := parseDynamic(w, p.md, out[len("before"):])
	if !ok || err != nil {
		t.Errorf("%x does not parse: %v", out, err)
		return false
	}
	if !proto.Equal(got, want) && !sameAnys(w, got, want) {
		t.Errorf("\n got %v\nwant %v", got, want)
	}
	return true
}

// sameAnys compares as JSON: fields within an Any stand as the document has them.
func sameAnys(w *world, a, b proto.Message) bool {
	o := protojson.MarshalOptions{Resolver: w.types}
	x, _, errX := protoJSON(o, a)
	y, _, errY := protoJSON(o, b)
	if errX != nil || errY != nil { // A name twice, or a value in an Any that JSON has none for.
		return errX != nil && errY != nil
	}
	v, errV := decoded(x)
	u, errU := decoded(y)
	return (errV == nil) == (errU == nil) && reflect.DeepEqual(v, u)
}

// token of JSON, or any character.
var token = regexp.MustCompile(`(?s)"(?:[^"\\]|\\.)*"|[-0-9.eE+]+|[a-z]+|\s+|.`)

// oddTokens are put where others were.
var oddTokens = strings.Split(strings.Join([]string{
	`1e400 -1e400 -0 9007199254740993 0.1e1 007 +1 1e-1 1. .5 1E+2 1e5 100e-2 - --1 0x10 1_000 1e1000000000000 0e1000000000000 0.0 -0.0`,
	`1e-400 3.5e38 3.4028235677973366e38 4294967296 -2147483649 18446744073709551616 1e19 1.8446744073709551615e19 12345678901234567890123456789e-10`,
	`null true false nul True NaN Infinity "NaN" "Infinity" "-Infinity" "inf" "1" "-1" "1.0" "1e2" "+1" "01" "0x1" "" "true" 99 -1 1.5`,
	`"\ud800" "\ud800\udc00" "\udc00\ud800" "\ud800x" "\u0000" "\q" "\u12" "\/" "abc "\u0041" "é\né" "V0_1" "V0_2" "v0_1" "nope"`,
	`"YQ==" "YQ" "Y-_=" "Y+/=" "YQ=\n=" "====" "YR=="`,
	`"2020-01-01T00:00:00Z" "2020-01-01T00:00:00.123456789+05:30" "2020-01-01T00:00:60Z" "10000-01-01T00:00:00Z" "2020-02-30T00:00:00Z"`,
	`"2020-01-01T00:00:00,5Z" "2020-01-01T0:00:00Z" "0001-01-01T00:00:00+23:59" "2020-01-01T24:00:00Z" "2020-01-01T00:00:00+24:00"`,
	`"1s" "-1.5s" "1.s" ".5s" "-.s" "+1s" "1.0000000001s" "315576000000.999999999s" "315576000001s" "-0s" "00s" "a,b.c" "aB" "a_b" ",a" "a,"`,
	`{} [] [[]] {"":1} {"@type":"google.protobuf.Duration","value":"1s"} {"value":"1s","@type":"google.protobuf.Duration"} {"@type":"x/rand.M0"}`,
	`{"@type":"rand.M1","@type":"rand.M1"} {"@type":""} {"@type":1} {"value":{}} {"@type":"google.protobuf.Empty","value":{}}`,
	`{"@type":"google.protobuf.Any","value":{"@type":"rand.M0"}} {"@type":"google.protobuf.Value","value":null} [ ] { } , : /*c*/ ,,`,
	`{"@type":"google.protobuf.Struct","value":{"a":[1,{"b":null}]}} [null] [1,"2",3.0] {"1":1} {"true":1} {"01":1,"1":2} {"a":1,"\u0061":2}`,
	"\"\xff\" \"\x01\" \"\x7f\" \"\xed\xa0\x80\" \"a\xc3\" \ufeff \v \u00a0 \x00",
}, " "), " ")

// mutateJSON changes some tokens of a document.
func mutateJSON(r *rand.Rand, text []byte, names []string) []byte {
	tokens := token.FindAllString(string(text), -1)
	for range 1 + r.IntN(3) {
		if len(tokens) == 0 {
			break
		}
		i := r.IntN(len(tokens))
		odd := oddTokens[r.IntN(len(oddTokens))]
		switch r.IntN(7) {
		case 0, 1: // A value, rather than what holds values together.
			for k := 0; k < 20 && strings.ContainsAny(tokens[i][:1], "{}[],: \n\t"); k++ {
				i = r.IntN(len(tokens))
			}
			tokens[i] = odd
		case 2:
			tokens = append(tokens[:i:i], tokens[i+1:]...)
		case 3:
			tokens = append(tokens[:i:i], append([]string{odd}, tokens[i:]...)...)
		case 4:
			tokens[i] = strconv.Quote(names[r.IntN(len(names))])
		case 5:
			until := min(len(tokens), i+1+r.IntN(6))
			tokens = append(tokens[:until:until], tokens[i:]...)
		case 6:
			if s := tokens[i]; len(s) > 2 && s[0] == '"' && s[1] != '\\' && s[1] < 0x80 {
				tokens[i] = `"\u00` + strconv.FormatInt(0x100+int64(s[1]), 16)[1:] + s[2:]
			}
		}
	}
	return []byte(strings.Join(tokens, ""))
}
