package policy

import (
	"net/textproto"
	"strings"
)

// Header is the name of a header in the two spellings under which edges keep
// headers: canonical (X-Api-Key) over REST, lower case over gRPC. Any spelling
// finds a header; the edge's own one costs no copy of the name on every call.
type Header struct{ canonical, lower string }

// NewHeader returns the header of a name, however it is spelt.
func NewHeader(name string) Header {
	return Header{textproto.CanonicalMIMEHeaderKey(name), strings.ToLower(name)}
}

// On is the name as the edge spells it, for Call.Headers and Call.Annotate.
func (h Header) On(e Edge) string {
	if e == EdgeGRPC {
		return h.lower
	}
	return h.canonical
}
