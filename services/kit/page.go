package kit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"
)

const (
	defaultPageSize = 20
	maxPageSize     = 100

	pageTokenVersion = 1
	paramsHashBytes  = 8
	// maxCursorID is the longest id a token may carry, that of the longest id.
	maxCursorID = 63
)

// Cursor is a place in a list that is ordered by time and id: right after the
// row that has both (keyset paging). Rows that come or go elsewhere do not move
// it. The zero Cursor is the beginning.
type Cursor struct {
	// Time is the row's, to the microsecond.
	Time time.Time
	// ID tells apart the rows of one microsecond.
	ID string
}

// IsZero reports whether c is the beginning of the list.
func (c Cursor) IsZero() bool { return c.ID == "" }

// PageSize returns how many rows a page has: 20 where the request says nothing,
// 100 at most (AIP-158).
func PageSize(asked int32) int {
	switch {
	case asked <= 0:
		return defaultPageSize
	case asked > maxPageSize:
		return maxPageSize
	}
	return int(asked)
}

// PageToken returns the opaque token of the page after c, good only for a query
// with the same params. It is not signed: it names a place in a list whose reader
// is checked anew, and a forged one can but name another place.
func PageToken(c Cursor, params ...string) string {
	raw := make([]byte, 0, 1+paramsHashBytes+binary.MaxVarintLen64+len(c.ID))
	raw = append(raw, pageTokenVersion)
	raw = append(raw, hashParams(params)...)
	raw = binary.AppendVarint(raw, c.Time.UnixMicro())
	raw = append(raw, c.ID...)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// ParsePageToken returns the place that token names, the beginning for an empty
// one. A token of a query with other params, or none of ours, is INVALID_ARGUMENT
// of page_token.
func ParsePageToken(token string, params ...string) (Cursor, error) {
	if token == "" {
		return Cursor{}, nil
	}
	c, err := decodePageToken(token, params)
	if err != nil {
		return Cursor{}, InvalidField("page_token", "page_token", "%s", err)
	}
	return c, nil
}

var errPageToken = errors.New("is not a token of this service")

func decodePageToken(token string, params []string) (Cursor, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < 1+paramsHashBytes || raw[0] != pageTokenVersion {
		return Cursor{}, errPageToken
	}
	hash, rest := raw[1:1+paramsHashBytes], raw[1+paramsHashBytes:]
	micros, n := binary.Varint(rest)
	if n <= 0 {
		return Cursor{}, errPageToken
	}
	id := rest[n:]
	if len(id) == 0 || len(id) > maxCursorID || !isID(id) {
		return Cursor{}, errPageToken
	}
	if string(hash) != string(hashParams(params)) {
		return Cursor{}, errors.New("belongs to another query: keep all other fields the same from page to page")
	}
	return Cursor{Time: time.UnixMicro(micros).UTC(), ID: string(id)}, nil
}

// hashParams hashes params so that no two lists of them run together.
func hashParams(params []string) []byte {
	h := sha256.New()
	var size [binary.MaxVarintLen64]byte
	for _, p := range params {
		h.Write(size[:binary.PutUvarint(size[:], uint64(len(p)))])
		h.Write([]byte(p))
	}
	return h.Sum(nil)[:paramsHashBytes]
}

// isID reports whether b has the alphabet of the shop's ids.
func isID(b []byte) bool {
	for _, c := range b {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
