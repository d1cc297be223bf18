package transcode_test

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sluice-gateway/sluice/gateway/transcode"
)

//go:embed testdata/conformance.txt
var conformance string

// conformanceCase is a line of testdata/conformance.txt.
type conformanceCase struct {
	message, name, in, out string
	refused                bool
}

var byteInHex = regexp.MustCompile(`‹([0-9a-f]{2})›`)

// readConformance parses the table.
func readConformance(t *testing.T) []conformanceCase {
	t.Helper()
	var cases []conformanceCase
	for n, line := range strings.Split(conformance, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		head, out, ok := strings.Cut(line, " => ")
		message, rest, ok2 := strings.Cut(head, " ")
		name, in, ok3 := strings.Cut(rest, " ")
		if !ok || !ok2 || !ok3 {
			t.Fatalf("line %d is no case: %s", n+1, line)
		}
		in = unhex(t, in)
		if out == "same" {
			out = in
		}
		cases = append(cases, conformanceCase{message, name, in, out, out == "refused"})
	}
	return cases
}

// unhex replaces ‹ff› by that byte.
func unhex(t *testing.T, s string) string {
	t.Helper()
	return byteInHex.ReplaceAllStringFunc(s, func(s string) string {
		b, err := hex.DecodeString(s[len("‹") : len(s)-len("›")])
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	})
}

// codec reads JSON into a message and writes it again.
type codec struct {
	name string
	run  func(t *testing.T, like proto.Message, in []byte) ([]byte, error)
}

// TestConformance holds the table against AppendWire and AppendJSON, one behind the
// other, and against protojson, so that an expectation that is wrong shows.
func TestConformance(t *testing.T) {
	set := transcode.New(transcode.Options{Types: protoregistry.GlobalTypes})
	codecs := []codec{
		{"transcode", func(t *testing.T, like proto.Message, in []byte) ([]byte, error) {
			p := planOf(t, set, like)
			wire, err := p.AppendWire(nil, in)
			if err != nil {
				return nil, err
			}
			out, err := p.AppendJSON(nil, wire)
			if err != nil {
				t.Errorf("AppendJSON refuses what AppendWire took: %v", err)
			}
			return out, nil
		}},
		{"protojson", func(t *testing.T, like proto.Message, in []byte) ([]byte, error) {
			m := like.ProtoReflect().New().Interface()
			if err := protojson.Unmarshal(in, m); err != nil {
				return nil, err
			}
			out, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
			if err != nil {
				t.Errorf("protojson does not write what it read: %v", err)
			}
			return out, nil
		}},
	}
	messages := map[string]proto.Message{}
	for _, m := range decoded {
		messages[string(m.ProtoReflect().Descriptor().Name())] = m
	}
	for _, c := range readConformance(t) {
		like := messages[c.message]
		if like == nil {
			t.Fatalf("%s: no such message", c.message)
		}
		for _, codec := range codecs {
			t.Run(c.message+"/"+c.name+"/"+codec.name, func(t *testing.T) {
				out, err := codec.run(t, like, []byte(c.in))
				if (err != nil) != c.refused {
					t.Fatalf("%s: refused: %v", c.in, err)
				}
				if err != nil {
					return
				}
				if base := emptyOf[c.message]; base != "" {
					empty, err := codec.run(t, like, []byte(base))
					if err != nil {
						t.Fatal(err)
					}
					out = difference(t, out, empty)
				}
				if got, want := sorted(t, out), sorted(t, []byte(c.out)); got != want {
					t.Errorf("%s:\ngot  %s\nwant %s", c.in, got, want)
				}
			})
		}
	}
}

// emptyOf is the JSON of the empty message, for those of which the table shows the
// difference.
var emptyOf = map[string]string{"Kinds": `{}`, "Legacy": `{"id":""}`, "Edition": `{"required":""}`}

// difference is what an object has and another has not, or has differently.
func difference(t *testing.T, of, from []byte) []byte {
	t.Helper()
	var a, b map[string]json.RawMessage
	if err := json.Unmarshal(of, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(from, &b); err != nil {
		t.Fatal(err)
	}
	for name, v := range b {
		if bytes.Equal(a[name], v) {
			delete(a, name)
		}
	}
	out, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sorted is JSON with its names sorted and its strings escaped alike; numbers stay
// as they are.
func sorted(t *testing.T, doc []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
