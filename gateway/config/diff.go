package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// Change is one value that differs between two configurations.
type Change struct {
	// Key is such as `limits.classes[read].rates[0].requests`.
	Key string
	// From and To are the values as text, without their secrets; empty means that
	// there is none.
	From, To string
	// Secret says that the difference is in what is not shown.
	Secret bool
	// NeedsRestart says that a running gateway keeps From until it is started again.
	NeedsRestart bool
}

// Diff says how a complete configuration differs from another, in the order of the
// keys.
func Diff(from, to *configv1.Config) []Change {
	a, b := map[string]leaf{}, map[string]leaf{}
	flatten(a, "", from.ProtoReflect())
	flatten(b, "", to.ProtoReflect())
	var out []Change
	for _, key := range slices.Sorted(maps.Keys(union(a, b))) {
		x, y := a[key], b[key]
		if x == y {
			continue
		}
		out = append(out, Change{Key: key, From: x.shown, To: y.shown, Secret: x.shown == y.shown,
			NeedsRestart: needsRestart(key, from.GetClientAddress().GetProxyProtocol())})
	}
	return out
}

// DiffRunning is Diff from what a running gateway shows (Redacted). Secrets are not
// compared: it does not show them.
func DiffRunning(running json.RawMessage, to *configv1.Config) ([]Change, error) {
	from := &configv1.Config{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(running, from); err != nil {
		return nil, fmt.Errorf("the gateway's configuration cannot be read: %w", err)
	}
	return Diff(from, redacted(to)), nil
}

func union(a, b map[string]leaf) map[string]leaf {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// leaf is a value, and how it may be shown.
type leaf struct{ value, shown string }

func leafOf(key, value string) leaf { return leaf{value, redact(key, value)} }

// flatten puts every value of a message under its key.
func flatten(to map[string]leaf, prefix string, m protoreflect.Message) {
	any := false
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		any = true
		key := string(fd.Name())
		if prefix != "" {
			key = prefix + "." + key
		}
		switch {
		case fd.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, e protoreflect.Value) bool {
				flattenValue(to, key+"["+k.String()+"]", k.String(), fd, e)
				return true
			})
		case fd.IsList():
			for i := range v.List().Len() {
				e := v.List().Get(i)
				flattenValue(to, key+"["+nameOf(fd, e, i)+"]", "", fd, e)
			}
		default:
			flattenValue(to, key, "", fd, v)
		}
		return true
	})
	if !any && prefix != "" { // That it is there means something.
		to[prefix] = leaf{"{}", "{}"}
	}
}

// flattenValue puts one value of a field, of a list or a map, too, under its key. name
// is its key within a map.
func flattenValue(to map[string]leaf, key, name string, fd protoreflect.FieldDescriptor, v protoreflect.Value) {
	kind := fd
	if fd.IsMap() {
		kind = fd.MapValue()
	}
	if kind.Kind() != protoreflect.MessageKind {
		text := v.String()
		if kind.Kind() == protoreflect.StringKind {
			text = strconv.Quote(text)
		}
		to[key] = leaf{text, redactor(fd)(name, text)}
		return
	}
	switch m := v.Message().Interface().(type) {
	case *durationpb.Duration:
		to[key] = leafOf("", m.AsDuration().String())
	case *timestamppb.Timestamp:
		to[key] = leafOf("", m.AsTime().Format(time.RFC3339))
	default:
		flatten(to, key, v.Message())
	}
}

// entryNames are the keys whose values tell the entries of a list apart.
var entryNames = []protoreflect.Name{"id", "name", "issuer", "address"}

// nameOf names an entry of a list by what tells it from others, so that one that is
// put in before it does not make it look changed.
func nameOf(fd protoreflect.FieldDescriptor, e protoreflect.Value, i int) string {
	if fd.Kind() == protoreflect.MessageKind {
		for _, id := range entryNames {
			if f := fd.Message().Fields().ByName(id); f != nil && e.Message().Get(f).String() != "" {
				return e.Message().Get(f).String()
			}
		}
	}
	return strconv.Itoa(i)
}
