package transcode

import (
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

var errNoType = errors.New("transcode: a google.protobuf.Any with a value and no type")

// anyValue is the parts of an Any.
type anyValue struct{ url, value []byte }

// read reads the parts over what is there.
func (a *anyValue) read(b []byte, m *message) error {
	for len(b) > 0 {
		num, wt, n := readTag(b)
		if n == 0 {
			return errWire
		}
		b = b[n:]
		if num > 2 || wt != bytesType {
			if n = skip(b, num, wt); n == 0 {
				return errWire
			}
			b = b[n:]
			continue
		}
		v, n := readBytes(b)
		if n == 0 {
			return errWire
		}
		b = b[n:]
		if num == 2 {
			a.value = v
			continue
		}
		if !utf8.Valid(v) {
			return errUTF8
		}
		a.url = v
	}
	return nil
}

// any appends an Any: the fields of the message inside beside "@type", or its own
// JSON as "value".
func (s *state) any(dst []byte, a anyValue, depth int) ([]byte, error) {
	if len(a.url) == 0 {
		if len(a.value) > 0 {
			return dst, errNoType
		}
		return append(dst, '{', '}'), nil
	}
	m, err := s.set.byURL(a.url)
	if err != nil {
		return dst, err
	}
	dst = append(dst, `{"@type":`...)
	if dst, err = appendString(dst, a.url); err != nil {
		return dst, err
	}
	s.partial++ // As in protojson.
	defer func() { s.partial-- }()
	if m.form != plainForm {
		dst = append(dst, `,"value":`...)
		dst, err = s.embedded(dst, a.value, m, depth)
		return append(dst, '}'), err
	}
	if depth--; depth < 0 {
		return dst, errDepth
	}
	if s.careful {
		dst, err = s.mergedFields(dst, []occurrence{s.whole(a.value)}, m, depth)
	} else {
		dst, err = s.fields(dst, a.value, m, depth)
	}
	return append(dst, '}'), err
}

// embedded is message in passes of either kind.
func (s *state) embedded(dst, b []byte, m *message, depth int) ([]byte, error) {
	if s.careful {
		return s.mergedMessage(dst, []occurrence{s.whole(b)}, m, depth)
	}
	return s.message(dst, b, m, depth)
}

// maxURLs bounds the types that are remembered by URL: anyone can make up new ones
// for a type.
const maxURLs = 1024

// maxURL is the longest that is remembered, in bytes.
const maxURL = 256

// byURL returns the plan of the message inside an Any.
func (s *Set) byURL(url []byte) (*message, error) {
	known := s.urls.Load()
	if known != nil {
		if m := (*known)[string(url)]; m != nil {
			return m, nil
		}
	}
	mt, err := s.types.FindMessageByURL(string(url))
	if err != nil {
		return nil, fmt.Errorf("transcode: the type of a google.protobuf.Any: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.message(mt.Descriptor())
	if len(url) > maxURL {
		return m, nil
	}
	next := map[string]*message{}
	if known = s.urls.Load(); known != nil {
		if len(*known) >= maxURLs {
			return m, nil
		}
		maps.Copy(next, *known)
	}
	next[string(url)] = m
	s.urls.Store(&next)
	return m, nil
}

// extended are the extensions of a message that were met. They are few.
type extended struct{ known atomic.Pointer[[]*field] }

func (x *extended) find(num protoreflect.FieldNumber) *field {
	if known := x.known.Load(); known != nil {
		for _, f := range *known {
			if f.num == num {
				return f
			}
		}
	}
	return nil
}

// extends says whether extensions may have the number.
func (m *message) extends(num uint64) bool {
	return m.extensions.Has(protoreflect.FieldNumber(num))
}

// extension returns the extension of a number, or nil.
func (s *Set) extension(m *message, num uint64) (*field, error) {
	n := protoreflect.FieldNumber(num)
	if f := m.extended.find(n); f != nil {
		return f, nil
	}
	xt, err := s.types.FindExtensionByNumber(m.md.FullName(), n)
	if errors.Is(err, protoregistry.NotFound) {
		return nil, nil // Unknown, like any other field.
	}
	if err != nil {
		return nil, fmt.Errorf("transcode: an extension: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := m.extended.find(n); f != nil {
		return f, nil
	}
	f := s.field(xt.TypeDescriptor())
	f.index = int32(len(m.fields))
	f.other = &f
	next := []*field{&f}
	if known := m.extended.known.Load(); known != nil {
		next = append(next, *known...)
	}
	m.extended.known.Store(&next)
	return &f, nil
}
