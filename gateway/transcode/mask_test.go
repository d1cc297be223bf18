package transcode

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
)

func TestMask(t *testing.T) {
	page := orders(1)
	inner := &testv1.Inner{Owner: "o", Tags: []string{"t"}, Inner: &testv1.Inner{Owner: "p", Number: 2}}
	kinds := &testv1.Kinds{
		FInt32: 1, RMessage: []*testv1.Inner{inner, {}}, MInt64: map[int64]*testv1.Inner{1: {Owner: "m"}},
		WTimestamp: aTime, Renamed: "r", Choice: &testv1.Kinds_CInt64{CInt64: 5},
	}
	for _, c := range []struct {
		mask string
		m    proto.Message
		want string
	}{
		{"nextPageToken", page, `{"nextPageToken":"from-1"}`},
		{"next_page_token", page, `{"nextPageToken":"from-1"}`},
		{" orders.orderId , orders.lines.sku", page, `{"orders":[{"orderId":"ada-0000","lines":[{"sku":"sku-0"},{"sku":"sku-1"},{"sku":"sku-2"}]}]}`},
		{"orders.total.*,orders.total.units", page, `{"orders":[{"total":{"currencyCode":"EUR","units":"75","nanos":0}}]}`},
		{"orders.total.units,orders.total", page, `{"orders":[{"total":{"currencyCode":"EUR","units":"75","nanos":0}}]}`},
		{"orders.createTime", page, `{"orders":[{"createTime":"2026-01-01T00:00:00.250Z"}]}`},
		{"inner.number,number", inner, `{"number":0,"inner":{"number":2}}`},
		{"inner.inner.inner.owner", inner, `{"inner":{}}`},
		{"*", inner, `{"owner":"o","number":0,"tags":["t"],"inner":{"owner":"p","number":2,"tags":[]}}`},
		{"owner,*", inner, `{"owner":"o","number":0,"tags":["t"],"inner":{"owner":"p","number":2,"tags":[]}}`},
		{"r_message.tags,mInt64,otherName", kinds, `{"rMessage":[{"tags":["t"]},{"tags":[]}],"mInt64":{"1":{"owner":"m","number":0,"tags":[]}},"otherName":"r"}`},
		{"renamed,wTimestamp,fInt64", kinds, `{"fInt64":"0","wTimestamp":"2026-01-01T00:00:00.250Z","otherName":"r"}`},
		{"cString", kinds, `{}`},
		{"cInt64", kinds, `{"cInt64":"5"}`},
		{"mString,rInt32", kinds, `{"rInt32":[],"mString":{}}`},
	} {
		t.Run(c.mask, func(t *testing.T) {
			p := planOf(t, c.m)
			m, err := p.Mask(c.mask)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.AppendMasked(nil, must(t, c.m), m)
			if err != nil || string(got) != c.want {
				t.Fatalf("%s, %v\nwant %s", got, err, c.want)
			}
			// Twice the message is still the message, but for lists.
			if _, err := p.AppendMasked(nil, append(must(t, c.m), must(t, c.m)...), m); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestMaskReplaced: a member of a oneof that another one has replaced is not there,
// though the other one is not asked for.
func TestMaskReplaced(t *testing.T) {
	p := planOf(t, &testv1.Kinds{})
	m, err := p.Mask("cString")
	if err != nil {
		t.Fatal(err)
	}
	wire := append(must(t, &testv1.Kinds{Choice: &testv1.Kinds_CString{CString: "s"}}), must(t, &testv1.Kinds{Choice: &testv1.Kinds_CInt64{}})...)
	if got, err := p.AppendMasked(nil, wire, m); err != nil || string(got) != "{}" {
		t.Fatalf("%s, %v", got, err)
	}
}

func TestMaskRefused(t *testing.T) {
	p := planOf(t, &testv1.Kinds{})
	for _, c := range []struct {
		mask    string
		unknown []string // nil: the syntax
	}{
		{"nothing", []string{"nothing"}},
		{"fInt32,a.b, rMessage.nope ,fInt64", []string{"a.b", "rMessage.nope"}},
		{"fInt32.x,fInt32.*", []string{"fInt32.x", "fInt32.*"}},
		{"mString.key", []string{"mString.key"}},
		{"mInt64.1.owner", []string{"mInt64.1.owner"}},
		{"wTimestamp.seconds,wStruct.a,wAny.typeUrl,wString.value", []string{"wTimestamp.seconds", "wStruct.a", "wAny.typeUrl", "wString.value"}},
		{"fMessage,fMessage.nope", []string{"fMessage.nope"}},
		{"*.x,F_INT32", []string{"*.x", "F_INT32"}},
		{"", nil}, {",", nil}, {"fInt32,", nil}, {"fMessage..fInt32", nil}, {".fInt32", nil}, {"fMessage.", nil},
		{strings.Repeat("a", 4097), nil}, {strings.Repeat("fInt32,", 100) + "fInt32", nil},
	} {
		_, err := p.Mask(c.mask)
		var unknown *UnknownPathsError
		if err == nil || errors.As(err, &unknown) != (c.unknown != nil) {
			t.Errorf("%.40q: %v", c.mask, err)
		} else if unknown != nil && !reflect.DeepEqual(unknown.Paths, c.unknown) {
			t.Errorf("%.40q: %q, want %q", c.mask, unknown.Paths, c.unknown)
		}
	}
	if _, err := p.Mask(strings.Repeat("fInt32,", 99) + "fInt32"); err != nil {
		t.Error(err)
	}
	m, err := planOf(t, &testv1.Inner{}).Mask("owner")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.AppendMasked(nil, nil, m); !errors.Is(err, errOtherMask) {
		t.Error(err)
	}
}

type fieldCase struct {
	field protoreflect.Name
	m     *testv1.Kinds
	mask  string
	want  string
}

func (c fieldCase) run(t *testing.T) {
	p, err := planOf(t, c.m).Field(c.field)
	if err != nil {
		t.Fatal(err)
	}
	var m *Mask
	if c.mask != "" {
		if m, err = p.Mask(c.mask); err != nil {
			t.Fatal(err)
		}
	}
	wire := must(t, c.m)
	got, err := p.AppendMasked([]byte("x"), wire, m)
	if err != nil || string(got) != "x"+c.want {
		t.Fatalf("%s, %v\nwant %s", got, err, c.want)
	}
	if err := p.Check(wire); err != nil {
		t.Fatal(err)
	}
	// And carefully.
	root := p.root
	if m != nil {
		root = m.root
	}
	s := state{set: p.set, wire: wire, careful: true}
	got, err = s.document(nil, root)
	s.release()
	if err != nil || string(got) != c.want {
		t.Fatalf("carefully %s, %v\nwant %s", got, err, c.want)
	}
}

func TestField(t *testing.T) {
	k := full(t)
	for _, c := range []fieldCase{
		{"f_int64", &testv1.Kinds{}, "", `"0"`},
		{"f_string", &testv1.Kinds{}, "", `""`},
		{"f_enum", &testv1.Kinds{}, "", `"COLOR_UNSPECIFIED"`},
		{"r_string", &testv1.Kinds{}, "", `[]`},
		{"m_string", &testv1.Kinds{}, "", `{}`},
		{"c_message", &testv1.Kinds{}, "", `{"owner":"","number":0,"tags":[]}`},
		{"w_value", &testv1.Kinds{}, "", `null`},
		{"o_int32", &testv1.Kinds{}, "", `null`},
		{"w_string", &testv1.Kinds{}, "", `""`},
		{"c_int64", &testv1.Kinds{}, "", `null`},
		{"c_int64", scalars(), "", `"4"`},
		{"o_int32", k, "", `0`},
		{"r_bool", k, "", `[true,false]`},
		{"w_timestamp", k, "", `"2026-01-01T00:00:00.250Z"`},
		{"m_bool", k, "", `{"false":99,"true":"COLOR_RED"}`},
		{"r_message", k, "", `[{"owner":"","number":0,"tags":[]},{"owner":"ada","number":3,"tags":["a"],"inner":{"owner":"b","number":0,"tags":[]}}]`},
		{"r_message", k, "owner,inner.owner", `[{"owner":""},{"owner":"ada","inner":{"owner":"b"}}]`},
		{"c_message", k, "owner", `{"owner":"c"}`},
		{"c_message", k, "*", `{"owner":"c","number":0,"tags":[]}`},
		{"c_message", scalars(), "owner", `{"owner":""}`},
		{"f_int64", k, "*", `"-9223372036854775808"`},
	} {
		t.Run(fmt.Sprint(c.field, c.mask), c.run)
	}
	if _, err := planOf(t, k).Field("nope"); err == nil {
		t.Error("a field that is not there")
	}
	if p, err := planOf(t, k).Field("f_int64"); err != nil {
		t.Error(err)
	} else if _, err := p.Mask("x"); err == nil {
		t.Error("a path into a number")
	}
}

func FuzzMask(f *testing.F) {
	for _, s := range []string{"*", "fMessage.fInt32,rMessage.tags", "cString,cInt64", "fMessage.fMessage.*", "x", "a..b"} {
		f.Add(s)
	}
	wire := must(f, full(f))
	f.Fuzz(func(t *testing.T, paths string) {
		p := planOf(t, &testv1.Kinds{})
		m, err := p.Mask(paths)
		if err != nil {
			return
		}
		out, err := p.AppendMasked(nil, wire, m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decoded(out); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
	})
}
