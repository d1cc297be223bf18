package upstream

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/policy"
	paths "github.com/sluice-gateway/sluice/gateway/route"
	"github.com/sluice-gateway/sluice/gateway/schema"
)

// A write to a path makes untrue what is cached for that path (RFC 9111, 4.4). Paths are
// found by the bindings of methods (google.api.http), filled in from the request message:
// so a write over the gRPC edge, or by a composite, removes what a GET over REST would
// have asked for, and the other way round. Methods without a binding have no path; their
// rules name tags.

// target is the path of a binding.
type target struct {
	literals []string
	fields   []field
}

// field reads the value of a path variable from a request message.
type field func(request []byte) (string, error)

// cachedPaths are the paths under which answers of methods are cached.
func cachedPaths(methods []*schema.Method) (out []paths.Template) {
	for _, m := range methods {
		if m.Rule.Cache == nil {
			continue
		}
		for _, b := range m.Bindings {
			if b.Verb == "GET" {
				out = append(out, b.Template)
			}
		}
	}
	return out
}

// newTargets are the paths of a method: of one whose answers are cached, those of GET;
// of any other, those of its writes under which answers of others may be cached. It
// reads, where it is cached or bound to GET: then only an unsafe HTTP method changes
// something, not a call over the gRPC edge.
func newTargets(m *schema.Method, cached []paths.Template) (out []target, reads bool, err error) {
	reads = m.Rule.Cache != nil
	for _, b := range m.Bindings {
		get := b.Verb == "GET" || b.Verb == "HEAD"
		reads = reads || get
		if get != (m.Rule.Cache != nil) || !get && !overlaps(b.Template, cached) {
			continue
		}
		t, err := newTarget(b)
		if err != nil {
			return nil, false, err
		}
		out = append(out, t)
	}
	return out, reads, nil
}

func overlaps(t paths.Template, others []paths.Template) bool {
	for _, o := range others {
		if t.Overlaps(o) {
			return true
		}
	}
	return false
}

func newTarget(b *schema.Binding) (target, error) {
	out := target{}
	out.literals, _ = b.Template.Parts()
	for _, v := range b.Variables {
		f, err := newField(b.Method.Descriptor.Input(), v)
		if err != nil {
			return out, fmt.Errorf("%s: path %q: %w", b.Method.FullName, b.Template, err)
		}
		out.fields = append(out.fields, f)
	}
	return out, nil
}

// locationOf is the path that the answer of a write names (success.location), where
// answers may be cached for it. A path of a response's fields is a tag of that path.
func locationOf(m *policy.Method, cached []paths.Template) (*policy.Tag, error) {
	if !strings.HasPrefix(m.Rule.Location, "/") || len(cached) == 0 || m.Streaming() { // A field may hold a whole URL.
		return nil, nil //nolint:nilnil // No location, nothing to remove.
	}
	t, err := m.CompileTag(strings.ReplaceAll(m.Rule.Location, "{", "{"+policy.ResponseField))
	if err != nil {
		return nil, fmt.Errorf("%s: success.location: %w", m.FullName, err)
	}
	return t, nil
}

// newField reads strings from the wire, and what is none, or stands in a oneof, from a
// parsed message.
func newField(md protoreflect.MessageDescriptor, variable schema.Variable) (field, error) {
	if f, err := policy.CompileFieldPath(md, variable.Path); err == nil {
		return func(request []byte) (string, error) {
			v, err := f.Of(policy.Message{Wire: request})
			if err == nil {
				return v, nil
			}
			if request, err = rewritten(request, md); err != nil { // As with tags: the scan refuses more than parsers do.
				return "", err
			}
			return f.Of(policy.Message{Wire: request})
		}, nil
	}
	fields := variable.Fields
	if fields[len(fields)-1].Cardinality() == protoreflect.Repeated {
		return nil, fmt.Errorf("%q is no field of one value", variable.Path)
	}
	return func(request []byte) (string, error) {
		m, err := parsed(request, md)
		if err != nil {
			return "", err
		}
		return valueAt(m, fields), nil
	}, nil
}

// valueAt is a value as text. Both the read and the write of a path make it here, so it
// need not be as a caller would write it.
func valueAt(m protoreflect.Message, fields []protoreflect.FieldDescriptor) string {
	last := len(fields) - 1
	for _, fd := range fields[:last] {
		m = m.Get(fd).Message()
	}
	v := m.Get(fields[last])
	switch n := v.Interface().(type) {
	case protoreflect.EnumNumber:
		return strconv.Itoa(int(n))
	case protoreflect.Message: // A wrapper, or a time: nobody writes these but by their bytes.
		b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(n.Interface())
		return string(b)
	}
	return v.String()
}

// name is the tag of the path, as a request fills it in.
func (t *target) name(request []byte) (string, error) {
	var b strings.Builder
	for i, text := range t.literals {
		b.WriteString(text)
		if i < len(t.fields) {
			v, err := t.fields[i](request)
			if err != nil {
				return "", err
			}
			b.WriteString(v)
		}
	}
	return cache.Target("", b.String()), nil
}

// changes are the paths that the messages of a stream have named so far.
type changes struct {
	mu      sync.Mutex
	targets []string
}

// maxChanges bounds the paths that a stream remembers until it ends. With more, those
// that it has go at once.
const maxChanges = 64

// add notes the paths of a message that is about to be sent.
func (c *changes) add(k *caching, call *policy.Call, message []byte) {
	if k == nil || len(k.targets) == 0 || k.reads && !call.Writes {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range k.targets {
		name, err := k.targets[i].name(message)
		if err != nil || slices.Contains(c.targets, name) {
			continue
		}
		if len(c.targets) == maxChanges {
			k.cache.InvalidateTargets(c.targets...)
			c.targets = c.targets[:0]
		}
		c.targets = append(c.targets, name)
	}
}

// done removes what is cached for the paths, when the stream has ended well or may have
// changed something.
func (c *changes) done(k *caching, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.targets) > 0 && (err == nil || mayHaveHappened(status.Code(err))) {
		k.cache.InvalidateTargets(c.targets...)
	}
}
