package transcode

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sluice-gateway/sluice/tools/effort"
)

// TestRandomToJSON holds plans of messages that are made up, of all editions, against
// protojson. The seed is fixed; FuzzRandomToJSON goes where this does not.
func TestRandomToJSON(t *testing.T) {
	taken, refused := 0, 0
	for seed := range uint64(effort.Rounds(50, 200)) { //nolint:gosec // Not negative.
		a, b := randomToJSON(t, seed, 25)
		taken, refused = taken+a, refused+b
	}
	if t.Logf("%d taken, %d refused", taken, refused); taken < 400 || refused < 400 {
		t.Errorf("%d taken and %d refused: the test no longer asks both sides", taken, refused)
	}
}

func FuzzRandomToJSON(f *testing.F) {
	for seed := range uint64(3) {
		f.Add(1000 + seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { randomToJSON(t, seed, 15) })
}

func randomToJSON(t *testing.T, seed uint64, rounds int) (taken, refused int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t, r)
	set := New(Options{Types: w.types})
	for range rounds {
		g := &wireMaker{Rand: r, w: w, odd: []int{0, 3, 10, 40}[r.IntN(4)], left: 60}
		md := w.msgs[r.IntN(len(w.msgs))]
		wire := g.message(md, 4)
		if r.IntN(4) == 0 {
			wire = append(wire, g.message(md, 3)...)
		}
		if r.IntN(3) == 0 {
			wire = g.corrupt(wire)
		}
		p, err := set.Plan(md)
		if err != nil {
			t.Fatal(err)
		}
		whole, ok := sameDocument(t, w, p, wire)
		if t.Failed() {
			t.Fatalf("seed %d: %s %x\n%v", seed, md.FullName(), wire, w)
		}
		if !ok {
			refused++
			continue
		}
		taken++
		sameField(t, p, md.Fields().Get(r.IntN(md.Fields().Len())), wire, whole)
		sameMasked(t, r, p, wire, whole)
		if t.Failed() {
			t.Fatalf("seed %d: %s %x\n%v", seed, md.FullName(), wire, w)
		}
	}
	return taken, refused
}

// attempt runs what parses into dynamic messages. That panics on a key of a map that
// comes again with another wire type: then ok is false.
func attempt[T any](f func() (T, error)) (v T, ok bool, err error) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	v, err = f()
	return v, true, err
}

func parseDynamic(w *world, md protoreflect.MessageDescriptor, wire []byte) (m proto.Message, ok bool, err error) {
	return attempt(func() (proto.Message, error) {
		m := dynamicpb.NewMessage(md)
		return m, proto.UnmarshalOptions{Resolver: w.types}.Unmarshal(wire, m)
	})
}

func protoJSON(o protojson.MarshalOptions, m proto.Message) (text []byte, ok bool, err error) {
	return attempt(func() ([]byte, error) { return o.Marshal(m) })
}

// sameDocument compares AppendJSON, and Check, with protojson. ok is whether there is
// a document: whole.
func sameDocument(t *testing.T, w *world, p *Plan, wire []byte) (whole map[string]any, ok bool) {
	t.Helper()
	m, parses, parseErr := parseDynamic(w, p.md, wire)
	checkErr := p.Check(wire)
	// Room that ends within what is written, and something behind it.
	back := bytes.Repeat([]byte{0xaa}, 512)
	got, err := p.AppendJSON(back[:100:100+len(wire)%300], bytes.Clone(wire))
	if behind := back[100+len(wire)%300:]; bytes.Count(back[:100], []byte{0xaa}) != 100 || bytes.Count(behind, []byte{0xaa}) != len(behind) {
		t.Errorf("written to where dst is not")
	}
	if got = got[100:]; !parses {
		return nil, false
	}
	if (checkErr == nil) != (parseErr == nil) {
		t.Errorf("Check says %v, Unmarshal %v", checkErr, parseErr)
	}
	want, wantErr := []byte(nil), parseErr
	if parseErr == nil {
		want, parses, wantErr = protoJSON(protojson.MarshalOptions{EmitDefaultValues: true, Resolver: w.types}, m)
	}
	if !parses { // What is in an Any does not.
		return nil, false
	}
	if (err == nil) != (wantErr == nil) {
		t.Errorf("AppendJSON says %v, protojson %v\n got %s\nwant %s", err, wantErr, got, want)
	}
	if err != nil || wantErr != nil {
		return nil, false
	}
	values, err := decoded(want)
	if err != nil {
		return nil, false // Two fields, or a field and "@type", of one name.
	}
	s := state{set: p.set, wire: wire, careful: true}
	careful, err := s.document(nil, p.root)
	s.release()
	if err != nil || !reads(got, values) || !reads(careful, values) {
		t.Errorf("%v\n      got %s\ncarefully %s\n     want %s", err, got, careful, want)
	}
	return values.(map[string]any), true
}

// reads says whether JSON says these values.
func reads(text []byte, values any) bool {
	got, err := decoded(text)
	return err == nil && reflect.DeepEqual(got, values)
}

// sameField compares the plan of a field with what the whole has there.
func sameField(t *testing.T, p *Plan, fd protoreflect.FieldDescriptor, wire []byte, whole map[string]any) {
	t.Helper()
	fp, err := p.Field(fd.Name())
	if err != nil {
		t.Error(err)
		return
	}
	want, set := whole[fd.JSONName()]
	if md := fd.Message(); !set && md != nil && md.FullName() != "google.protobuf.Value" {
		empty, err := protojson.MarshalOptions{EmitDefaultValues: true, AllowPartial: true}.Marshal(dynamicpb.NewMessage(md))
		if err != nil {
			t.Error(err)
			return
		}
		if want, err = decoded(empty); err != nil {
			return // As above.
		}
	}
	if got, err := fp.AppendJSON(nil, wire); err != nil || !reads(got, want) {
		t.Errorf("%s: %v\n got %s\nwant %v", fd.Name(), err, got, want)
	}
}

// sameMasked compares what a mask leaves with what it leaves of the whole.
func sameMasked(t *testing.T, r *rand.Rand, p *Plan, wire []byte, whole map[string]any) {
	t.Helper()
	chosen := choice{}
	paths := chosen.make(r, p.md, "", 0)
	m, err := p.Mask(strings.Join(paths, ","))
	if err != nil || len(paths) == 0 {
		return // A name that no mask can say; mask_test has them.
	}
	want := chosen.of(whole, p.md)
	if got, err := p.AppendMasked(nil, wire, m); err != nil || !reads(got, want) {
		text, _ := json.Marshal(want)
		t.Errorf("mask %q: %v\n got %s\nwant %s", paths, err, got, text)
	}
}

// choice of fields, by their names in JSON; nil is all of one.
type choice map[string]choice

// make chooses some and returns their paths.
func (c choice) make(r *rand.Rand, md protoreflect.MessageDescriptor, prefix string, depth int) (paths []string) {
	for range 1 + r.IntN(3) {
		fd := md.Fields().Get(r.IntN(md.Fields().Len()))
		name, key := string(fd.Name()), fd.JSONName()
		if twin := md.Fields().ByJSONName(name); twin != nil && twin != fd {
			continue
		}
		sub, had := c[key]
		in := fd.Message()
		if in == nil || fd.IsMap() || in.FullName().Parent() == "google.protobuf" || depth == 3 || r.IntN(2) == 0 {
			c[key] = nil
			paths = append(paths, prefix+name)
			continue
		}
		if had && sub == nil {
			continue
		}
		if sub == nil {
			sub = choice{}
		}
		if more := sub.make(r, in, prefix+name+".", depth+1); len(more) > 0 {
			c[key] = sub
			paths = append(paths, more...)
		}
	}
	return paths
}

// of is what the choice leaves of an object, or of those in a list.
func (c choice) of(v any, md protoreflect.MessageDescriptor) any {
	switch v := v.(type) {
	case map[string]any:
		left := map[string]any{}
		for name, value := range v {
			sub, has := c[name]
			if has && sub != nil {
				value = sub.of(value, md.Fields().ByJSONName(name).Message())
			}
			if has {
				left[name] = value
			}
		}
		return left
	case []any:
		left := []any{}
		for _, value := range v {
			left = append(left, c.of(value, md))
		}
		return left
	}
	return v
}
