package aggregator

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// errMalformed cannot come of Branches that keep to their terms.
var errMalformed = status.Error(codes.Internal, "internal error")

// split makes a message of each element of a list in a response, which keeps the
// element's bytes as unknown fields. The messages share b.
func split[Elem any, Out message[Elem]](b []byte, list protowire.Number) ([]*Elem, error) {
	count := 0
	if err := elements(b, list, func([]byte) { count++ }); err != nil || count == 0 {
		return nil, err
	}
	structs := make([]Elem, count) // One allocation for all.
	out := make([]*Elem, 0, count)
	err := elements(b, list, func(element []byte) {
		m := &structs[len(out)]
		Out(m).ProtoReflect().SetUnknown(element)
		out = append(out, m)
	})
	return out, err
}

// elements calls each with every element in turn. It sees the top level only, as
// the parser does: a field with the list's number but another wire type is an
// unknown one.
func elements(b []byte, list protowire.Number, each func([]byte)) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		if num != list || typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return errMalformed
			}
			b = b[n:]
			continue
		}
		element, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return errMalformed
		}
		each(element[:len(element):len(element)]) // Who appends to one must not write into the next.
		b = b[n:]
	}
	return nil
}
