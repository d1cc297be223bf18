package proxy

import "encoding/binary"

// records follows the records of TLS that a backend sends, by their headers alone
// (RFC 8446, 5.1): behind a part of one, TLS waits for more, as it does where there is
// nothing. The zero value is the beginning of a connection, and of one without TLS.
type records struct {
	head [recordHeader]byte
	have int // of head
	left int // of the record behind it
}

// A record's header is its type, a version and its length.
const recordHeader = 5

// whole says whether no record has begun and not ended.
func (r *records) whole() bool { return r.have == 0 && r.left == 0 }

// follow takes the next bytes.
func (r *records) follow(p []byte) {
	for len(p) > 0 {
		if r.left > 0 {
			n := min(r.left, len(p))
			r.left -= n
			p = p[n:]
			continue
		}
		n := copy(r.head[r.have:], p)
		r.have += n
		p = p[n:]
		if r.have == recordHeader {
			r.have, r.left = 0, int(binary.BigEndian.Uint16(r.head[3:]))
		}
	}
}

// oneAlert says whether p is one record that is as an alert is when it is encrypted: such
// as the close_notify with which a backend ends a connection in order.
func oneAlert(p []byte) bool {
	if len(p) < recordHeader || recordHeader+int(binary.BigEndian.Uint16(p[3:])) != len(p) {
		return false
	}
	const alert = 21
	// From TLS 1.3 on the type is not to be seen: two bytes and what encryption adds are
	// shorter than any answer.
	return p[0] == alert || len(p) <= recordHeader+32
}
