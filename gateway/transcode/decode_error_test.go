package transcode_test

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sluice-gateway/sluice/gateway/transcode"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

//go:embed testdata/errors.golden
var errorsGolden string

// TestDecodeErrors holds what clients are told: lines of
//
//	Message input => field @ line:column: reason
func TestDecodeErrors(t *testing.T) {
	plans := decodePlans(t)
	lines := strings.Split(strings.TrimSuffix(errorsGolden, "\n"), "\n")
	seen := 0
	for n, line := range lines {
		if line == "" || line[0] == '#' {
			continue
		}
		seen++
		head, _, ok := strings.Cut(line, " => ")
		message, in, ok2 := strings.Cut(head, " ")
		if !ok || !ok2 {
			t.Fatalf("line %d is no case: %s", n+1, line)
		}
		which := -1
		for i, m := range decoded {
			if string(m.ProtoReflect().Descriptor().Name()) == message {
				which = i
			}
		}
		if which < 0 {
			t.Fatalf("line %d: no such message", n+1)
		}
		data := []byte(unhex(t, in))
		sameDecoding(t, plans[which], decoded[which], data)
		_, err := plans[which].AppendWire(nil, data)
		var bad *transcode.Error
		if !errors.As(err, &bad) {
			t.Errorf("line %d: %s is taken: %v", n+1, in, err)
			continue
		}
		if got := fmt.Sprintf("%s => %s @ %d:%d: %s", head, bad.Field, bad.Line, bad.Column, bad.Reason); got != line {
			t.Errorf("line %d:\ngot  %s\nwant %s", n+1, got, line)
		}
	}
	if seen < 100 {
		t.Errorf("%d cases", seen)
	}
}

// TestDecodeErrorShown holds that an error shows names only as far as that is safe,
// and nothing else of what was sent.
func TestDecodeErrorShown(t *testing.T) {
	p := decodePlans(t)[0]
	const secret = "hunter2"
	for _, doc := range []string{
		`{"fInt32":"` + secret + `"}`, `{"fBytes":"` + secret + `!"}`, `{"fEnum":"` + secret + `"}`, `{"wTimestamp":"` + secret + `"}`, `{"wMask":"` + secret + `!"}`,
		`{"wDuration":"` + secret + `"}`, `{"wAny":{"@type":"` + secret + `"}}`, `{"fDouble":"` + secret + `"}`, `{"fBool":"` + secret + `"}`, `{"fString":` + secret + `}`, `{"rInt32":["` + secret + `"]}`,
	} {
		if _, err := p.AppendWire(nil, []byte(doc)); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", doc, err)
		}
	}
	for _, name := range []string{
		strings.Repeat("x", 5000), strings.Repeat("é", 5000), `a\u0000\u001b[31m`, "\u202e", strings.Repeat(`\n`, 200),
	} {
		for _, doc := range []string{`{"` + name + `":1}`, `{"mString":{"` + name + `":1}}`, `{"wEmpty":{"` + name + `":1}}`, `{"wAny":{"@type":"google.protobuf.Empty","` + name + `":1}}`} {
			_, err := p.AppendWire(nil, []byte(doc))
			var bad *transcode.Error
			if !errors.As(err, &bad) {
				t.Fatalf("%s: %v", doc, err)
			}
			if len(bad.Field) > 300 || strings.ContainsFunc(bad.Field, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("the field is %q", bad.Field)
			}
		}
	}
}

// TestDecodeErrorDeep holds that the path of an error is bounded where messages may
// nest without end.
func TestDecodeErrorDeep(t *testing.T) {
	p := planOf(t, transcode.New(transcode.Options{Types: protoregistry.GlobalTypes, MaxDepth: 5000}), proto.Message(&testv1.Kinds{}))
	doc := strings.Repeat(`{"wStruct":{"a":`, 1) + strings.Repeat(`{"long name of a member":`, 3000) + "x"
	_, err := p.AppendWire(nil, []byte(doc))
	var bad *transcode.Error
	if !errors.As(err, &bad) || len(bad.Field) > 1000 || !strings.HasPrefix(bad.Field, "…") {
		t.Fatalf("%v", err)
	}
}
