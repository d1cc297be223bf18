package transcode_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/transcode"
)

func tagged(num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), v)
}

// grouped is v within so many groups of a field.
func grouped(num protowire.Number, n int, v []byte) []byte {
	start, end := protowire.AppendTag(nil, num, protowire.StartGroupType), protowire.AppendTag(nil, num, protowire.EndGroupType)
	return append(append(bytes.Repeat(start, n), v...), bytes.Repeat(end, n)...)
}

// nested is an EchoRequest whose inner messages are so deep.
func nested(n int) []byte {
	b := tagged(1, []byte("x"))
	for range n - 1 {
		b = tagged(4, b)
	}
	return tagged(8, b)
}

// TestCheckRequest: bytes that some parser refuses, in any language, are refused here, with
// the field; what all of them take passes, known or not.
func TestCheckRequest(t *testing.T) {
	legacy, echo := (*testv1.Legacy)(nil).ProtoReflect().Descriptor(), (*testv1.EchoRequest)(nil).ProtoReflect().Descriptor()
	set, id := transcode.New(transcode.Options{Types: protoregistry.GlobalTypes}), tagged(1, []byte("a"))
	for name, tc := range map[string]struct {
		old   bool // a Legacy, not an EchoRequest
		wire  []byte
		field string
		why   string // "" means that it passes
	}{
		"nothing":                       {},
		"an unknown field":              {wire: tagged(99, []byte{0xff})},
		"known numbers of other types":  {wire: protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7)},
		"a required field":              {old: true, wire: id},
		"a required field, far behind":  {old: true, wire: append(tagged(3, []byte("n")), id...)},
		"parts that complete another":   {old: true, wire: bytes.Join([][]byte{id, tagged(11, nil), tagged(11, id)}, nil)},
		"text of proto2 is not checked": {old: true, wire: append(bytes.Clone(id), tagged(15, []byte{0xff})...)},
		"as deep as all take":           {wire: nested(100)},
		"unknown groups, as deep":       {wire: grouped(99, 100, nil)},
		"a tag of 5 bytes":              {wire: []byte{0x8a, 0x80, 0x80, 0x80, 0x00, 1, 'a'}},

		"a required field is missing":      {old: true, wire: tagged(3, []byte("n")), field: "id", why: "is required"},
		"it is missing within":             {old: true, wire: append(bytes.Clone(id), tagged(11, nil)...), field: "c_message.id", why: "is required"},
		"it is missing within a list":      {old: true, wire: append(bytes.Clone(id), tagged(102, tagged(11, nil))...), field: "[sluice.test.v1.x_legacy].id", why: "is required"},
		"text that is none":                {wire: tagged(1, []byte{0xff}), field: "id", why: "must be UTF-8"},
		"text that is none, within":        {wire: tagged(8, tagged(4, tagged(1, []byte{0xff}))), field: "inner.inner.owner", why: "must be UTF-8"},
		"cut off":                          {wire: id[:2], field: "id", why: "is not valid protobuf"},
		"cut off within":                   {wire: tagged(8, []byte{0x0a, 5}), field: "inner.owner", why: "is not valid protobuf"},
		"garbage":                          {wire: []byte{0xff, 0xff, 0xff}, why: "is not valid protobuf"},
		"field number 0":                   {wire: []byte{0x02, 0}, why: "is not valid protobuf"},
		"a group that is not closed":       {wire: []byte{0x9b, 0x06}, why: "is not valid protobuf"},
		"deeper":                           {wire: nested(101), field: strings.Repeat("inner.", 100) + "inner", why: "is nested deeper than 100 messages"},
		"unknown groups, deeper":           {wire: grouped(99, 101, nil), why: "is nested deeper than 100 messages"},
		"a tag of 6 bytes":                 {wire: []byte{0x8a, 0x80, 0x80, 0x80, 0x80, 0x00, 1, 'a'}, why: "is not valid protobuf"},
		"a length of 6 bytes":              {wire: []byte{0x0a, 0x81, 0x80, 0x80, 0x80, 0x80, 0x00, 'a'}, field: "id", why: "is not valid protobuf"},
		"a length of 6 bytes, unknown":     {wire: []byte{0x9a, 0x06, 0x81, 0x80, 0x80, 0x80, 0x80, 0x00, 'a'}, why: "is not valid protobuf"},
		"a tag of 6 bytes, in a group":     {wire: grouped(99, 1, []byte{0x8a, 0x80, 0x80, 0x80, 0x80, 0x00, 1, 'a'}), why: "is not valid protobuf"},
		"an unknown group, cut off inside": {wire: []byte{0x9b, 0x06, 0x0a, 5}, why: "is not valid protobuf"},
	} {
		t.Run(name, func(t *testing.T) {
			md := echo
			if tc.old {
				md = legacy
			}
			p, err := set.Plan(md)
			if err != nil {
				t.Fatal(err)
			}
			err = p.CheckRequest(tc.wire)
			var e *transcode.Error
			switch {
			case tc.why == "" && err == nil:
				if err := p.Check(tc.wire); err != nil {
					t.Errorf("it is stricter, but Check says %v", err)
				}
				return
			case !errors.As(err, &e) || tc.why == "":
				t.Fatalf("got %v", err)
			}
			if e.Reason != tc.why || e.Field != tc.field && (len(tc.field) < 512 || !strings.HasSuffix(tc.field, e.Field)) {
				t.Errorf("%q %q", e.Field, e.Reason)
			}
		})
	}
}

// TestUnwritable: the first field that keeps a message from being written.
func TestUnwritable(t *testing.T) {
	for want, m := range map[string]proto.Message{
		"id: is required":                         &testv1.Legacy{},
		"c_message.id: is required":               &testv1.Legacy{Id: proto.String("a"), Choice: &testv1.Legacy_CMessage{CMessage: &testv1.Legacy{}}},
		"id: must be UTF-8":                       &testv1.EchoRequest{Id: "\xff"},
		"inner.tags[1]: must be UTF-8":            &testv1.EchoRequest{Inner: &testv1.Inner{Tags: []string{"a", "\xff"}}},
		"kinds.m_string: must be UTF-8":           &testv1.EchoRequest{Kinds: &testv1.Kinds{MString: map[string]string{"\xff": "a"}}},
		"kinds.r_message[0].owner: must be UTF-8": &testv1.EchoRequest{Kinds: &testv1.Kinds{RMessage: []*testv1.Inner{{Owner: "\xff"}}}},
	} {
		if _, err := proto.Marshal(m); err == nil {
			t.Errorf("%s: it can be written", want)
		}
		if e := transcode.Unwritable(m); e.Field+": "+e.Reason != want {
			t.Errorf("%s: %s: %s", want, e.Field, e.Reason)
		}
	}
}

// FuzzCheckRequest: what passes can be parsed; what does not, and protobuf-go takes all the
// same, is deep or long-winded, which the error says.
func FuzzCheckRequest(f *testing.F) {
	for _, b := range [][]byte{nil, tagged(1, []byte("a")), nested(101), grouped(99, 101, nil), {0x8a, 0x80, 0x80, 0x80, 0x80, 0x00, 1, 'a'}, tagged(11, nil), {0x0a, 1, 0xff}} {
		f.Add(b)
	}
	set := transcode.New(transcode.Options{Types: protoregistry.GlobalTypes})
	f.Fuzz(func(t *testing.T, wire []byte) {
		for _, m := range []proto.Message{&testv1.Legacy{}, &testv1.EchoRequest{}} {
			p, err := set.Plan(m.ProtoReflect().Descriptor())
			if err != nil {
				t.Fatal(err)
			}
			parsed := p.Check(wire)
			var e *transcode.Error
			switch err := p.CheckRequest(wire); {
			case err == nil && parsed != nil:
				t.Fatalf("passed, but cannot be parsed: %v", parsed)
			case err != nil && (!errors.As(err, &e) || e.Reason == ""):
				t.Fatalf("no reason: %v", err)
			}
		}
	})
}
