package request

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// HeaderField is a field of the request that a header fills: Idempotency-Key the
// request_id of AIP-155, If-Match the etag of AIP-154. It is safe for concurrent use.
type HeaderField struct {
	header, name string
	plan         *transcode.Plan
	path         []transcode.Field
}

// NewHeaderField is for a field by its path in proto names, which must be a string.
func NewHeaderField(plan *transcode.Plan, header, field string) (*HeaderField, error) {
	h := &HeaderField{header: header, name: field, plan: plan}
	for segment := range strings.SplitSeq(field, ".") {
		f := plan.Named(segment)
		if n := len(h.path); n > 0 {
			f = h.path[n-1].Named(segment)
		}
		if !f.Exists() || f.Oneof() != 0 {
			return nil, fmt.Errorf("%s: there is no field %q, or it is in a oneof", header, field)
		}
		h.path = append(h.path, f)
	}
	if fd := h.path[len(h.path)-1].Descriptor(); fd.Kind() != protoreflect.StringKind || fd.IsList() {
		return nil, fmt.Errorf("%s: %q is no string", header, field)
	}
	return h, nil
}

// Append puts the header's value into a request that is complete otherwise. A value that
// the request has already must be the same. Its error is Errors; wire is then returned
// as it was.
func (h *HeaderField) Append(wire []byte, values []string) ([]byte, error) {
	switch {
	case len(values) == 0:
		return wire, nil
	case len(values) > 1 || values[0] == "":
		return wire, Errors{{h.header, "must be given once and not be empty"}}
	case !utf8.ValidString(values[0]):
		return wire, Errors{{h.header, "must be UTF-8"}}
	}
	var have []byte
	last := len(h.path) - 1
	number := h.path[last].Descriptor().Number()
	walk(wire, h.path[:last], func(num protowire.Number, value []byte) {
		if num == number {
			have = value
		}
	})
	switch {
	case string(have) == values[0]:
		return wire, nil
	case len(have) > 0:
		return wire, Errors{{h.header, "differs from " + h.name}}
	}
	return h.plan.AppendText(wire, h.path, "", values[0])
}
