package kit

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// NewID returns a random id that matches the shop's id pattern: 24 characters
// with 120 bits of chance.
func NewID() string {
	var raw [15]byte
	_, _ = rand.Read(raw[:]) // Never fails since Go 1.24: it ends the process instead.
	return idEncoding.EncodeToString(raw[:])
}

var idEncoding = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// Etag returns the opaque version of a resource (AIP-154): of its revision, and
// of its creation, so that a resource deleted and made anew under the same id has
// etags of its own.
func Etag(revision int64, created time.Time) string {
	var raw [2 * binary.MaxVarintLen64]byte
	n := binary.PutVarint(raw[:], revision)
	n += binary.PutVarint(raw[n:], created.UnixMicro())
	return base64.RawURLEncoding.EncodeToString(raw[:n])
}

// Now returns the time to the microsecond, which is what both engines keep: what
// is answered now must equal what is read later.
func Now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
