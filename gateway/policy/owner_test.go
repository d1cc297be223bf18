package policy_test

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/gateway/policy"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

func sub(fields ...[]byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), cat(fields...))
}

func str(n protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, n, protowire.BytesType), s)
}

func cat(b ...[]byte) (out []byte) {
	for _, x := range b {
		out = append(out, x...)
	}
	return out
}

// ownerCases are wire forms of an UpdateUserRequest, whose owner is
// user.user_id, and the owner that the parser sees; bad means that it refuses,
// refused that it does not, but parsers of other languages would see another.
var ownerCases = map[string]struct {
	wire    []byte
	owner   string
	bad     bool
	refused bool
}{
	"nothing":                  {},
	"plain":                    {wire: sub(str(1, "ada")), owner: "ada"},
	"empty parent":             {wire: sub()},
	"the last of two":          {wire: sub(str(1, "ada"), str(1, "bob")), owner: "bob"},
	"an empty last one":        {wire: sub(str(1, "ada"), str(1, ""))},
	"split parent":             {wire: cat(sub(str(1, "ada")), sub(str(2, "x@y"))), owner: "ada"},
	"two parents":              {wire: cat(sub(str(1, "ada")), sub(str(1, "bob"))), owner: "bob"},
	"victim then empty parent": {wire: cat(sub(str(1, "bob")), sub()), owner: "bob"},
	"bob, ada, empty":          {wire: cat(sub(str(1, "bob")), sub(str(1, "ada")), sub()), owner: "ada"},
	"wrong wire type last":     {wire: sub(str(1, "bob"), protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7)), owner: "bob"},
	"wrong wire type parent":   {wire: cat(sub(str(1, "bob")), protowire.AppendFixed64(protowire.AppendTag(nil, 1, protowire.Fixed64Type), 7)), owner: "bob"},
	"overlong tag":             {wire: cat(sub(str(1, "ada")), []byte{0x8a, 0x80, 0x00, 0x05, 0x0a, 0x03, 'b', 'o', 'b'}), refused: true},
	"overlong tag inside":      {wire: sub(str(1, "ada"), []byte{0x8a, 0x00, 0x03, 'b', 'o', 'b'}), refused: true},
	"overlong unknown tag":     {wire: cat(sub(str(1, "ada")), []byte{0xf8, 0x80, 0x00, 0x01}), refused: true},
	"tag of 2^32 and field 1":  {wire: cat(sub(str(1, "ada")), []byte{0x8a, 0x80, 0x80, 0x80, 0x10, 0x05, 0x0a, 0x03, 'b', 'o', 'b'}), bad: true},
	"overlong length":          {wire: []byte{0x0a, 0x85, 0x00, 0x0a, 0x03, 'b', 'o', 'b'}, owner: "bob"},
	"other fields around":      {wire: cat(str(2, ""), sub(str(3, "x"), str(1, "ada"), str(4, "y")), str(9, "z")), owner: "ada"},
	"bad utf8":                 {wire: sub(str(1, "ad\xff")), bad: true},
	"bad utf8, overwritten":    {wire: sub(str(1, "ad\xff"), str(1, "ada")), bad: true},
	"group of the same number": {wire: cat(sub(str(1, "ada")), []byte{0x0b, 0x0a, 0x03, 'b', 'o', 'b', 0x0c}), owner: "ada"},
	"unterminated group":       {wire: cat(sub(str(1, "ada")), []byte{0x0b}), bad: true},
	"stray end group":          {wire: cat(sub(str(1, "ada")), []byte{0x0c}), bad: true},
	"stray end group inside":   {wire: sub(str(1, "ada"), []byte{0x0c}), bad: true},
	"field number zero":        {wire: cat(sub(str(1, "ada")), []byte{0x02, 0x00}), bad: true},
	"wire type 7":              {wire: cat(sub(str(1, "ada")), []byte{0x0f}), bad: true},
	"truncated length":         {wire: cat(sub(str(1, "ada")), []byte{0x0a, 0x80}), bad: true},
	"truncated value":          {wire: []byte{0x0a, 0x05, 0x0a, 0x03, 'a'}, bad: true},
	"truncated unknown":        {wire: cat(sub(str(1, "ada")), []byte{0x99, 0x01, 0x00}), bad: true},
	"length of 2^63":           {wire: []byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, bad: true},
}

func userPath(t testing.TB) *policy.FieldPath {
	t.Helper()
	path, err := policy.CompileFieldPath((&userv1.UpdateUserRequest{}).ProtoReflect().Descriptor(), "user.user_id")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFieldPath(t *testing.T) {
	path := userPath(t)
	for name, tc := range ownerCases {
		t.Run(name, func(t *testing.T) {
			var m userv1.UpdateUserRequest
			if err := proto.Unmarshal(tc.wire, &m); (err != nil) != tc.bad {
				t.Fatalf("the case is wrong: the parser says %v", err)
			}
			got, err := path.Of(policy.Message{Wire: tc.wire})
			if (err != nil) != (tc.bad || tc.refused) || got != tc.owner {
				t.Errorf("from the wire: %q, %v; want %q, bad %v", got, err, tc.owner, tc.bad)
			}
			if tc.bad || tc.refused {
				return
			}
			if got := m.GetUser().GetUserId(); got != tc.owner {
				t.Errorf("the parser reads %q, not %q", got, tc.owner)
			}
		})
	}
}

// FuzzFieldPath holds the scan to the parser: what the parser takes, the scan
// takes and reads alike. What the parser refuses never reaches a service.
func FuzzFieldPath(f *testing.F) {
	for _, tc := range ownerCases {
		f.Add(tc.wire)
	}
	path := userPath(f)
	f.Fuzz(func(t *testing.T, wire []byte) {
		got, scanErr := path.Of(policy.Message{Wire: wire})
		if scanErr != nil && got != "" {
			t.Fatalf("an owner %q beside an error", got)
		}
		var m userv1.UpdateUserRequest
		if proto.Unmarshal(wire, &m) != nil {
			return
		}
		if scanErr != nil {
			if !overlong(wire) {
				t.Fatalf("the scan refuses what the parser takes: %x", wire)
			}
			return
		}
		if want := m.GetUser().GetUserId(); got != want {
			t.Fatalf("scan %q, parser %q: %x", got, want, wire)
		}
	})
}

// overlong says whether a tag that the scan looks at has more bytes than needed.
func overlong(b []byte) bool {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		if n != protowire.SizeTag(num) {
			return true
		}
		if v, m := protowire.ConsumeBytes(b[n:]); num == 1 && typ == protowire.BytesType && m > 0 && overlong(v) {
			return true
		}
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return false
		}
		b = b[n+m:]
	}
	return false
}

func BenchmarkFieldPathWire(b *testing.B) {
	path := userPath(b)
	wire, err := proto.Marshal(&userv1.UpdateUserRequest{User: &userv1.User{UserId: "ada", Email: "ada@example.com", DisplayName: "Ada"}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := path.Of(policy.Message{Wire: wire}); err != nil {
			b.Fatal(err)
		}
	}
}
