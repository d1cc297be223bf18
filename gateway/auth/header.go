package auth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// header is what the gateway reads of a token's header. What names or holds
// keys there (jku, jwk, x5u, x5c) is not read at all: the token would vouch for
// itself (RFC 8725, 3.10).
type header struct{ alg, kid string }

var errType = errors.New("a token of another type")

// peek reads what a token claims of itself, all of it yet to be verified.
func peek(token string) (h header, c claims, err error) {
	if !wellFormed(token) {
		return h, c, errMalformed
	}
	head, rest, _ := strings.Cut(token, ".")
	body, _, _ := strings.Cut(rest, ".")
	raw, err := decode(head)
	if err != nil {
		return h, c, err
	}
	if h, err = readHeader(raw); err != nil {
		return h, c, err
	}
	if raw, err = decode(body); err != nil {
		return h, c, err
	}
	return h, c, c.UnmarshalJSON(raw)
}

// decode takes one spelling of each text only: no padding, no line breaks, and
// no bits left over that differ.
func decode(part string) ([]byte, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil || !json.Valid(raw) {
		return nil, errMalformed
	}
	return raw, nil
}

func readHeader(raw []byte) (h header, err error) {
	members, err := object(raw)
	if err != nil {
		return h, errMalformed
	}
	// An extension that the issuer calls critical is one that we would have to
	// understand (RFC 7515, 4.1.11), and we know none.
	if _, ok := members["crit"]; ok {
		return h, jwt.ErrTokenUnverifiable
	}
	if text(members["alg"], &h.alg) != nil {
		return h, jwt.ErrTokenUnverifiable
	}
	if v, ok := members["kid"]; ok && (text(v, &h.kid) != nil || len(h.kid) > maxKeyID) {
		return h, errMalformed
	}
	var typ, cty string
	if v, ok := members["typ"]; ok && text(v, &typ) != nil {
		return h, errMalformed
	}
	if v, ok := members["cty"]; ok && text(v, &cty) != nil {
		return h, errMalformed
	}
	if !accessToken(typ) || mediaType(cty) == "jwt" {
		return h, errType
	}
	return h, nil
}

// accessToken says whether a token of the type may stand for a caller. An issuer
// signs other things with the same keys (logout tokens, DPoP proofs, security
// events), each of a type of its own so that none passes for another (RFC 8725,
// 3.11). JWT, JOSE or none at all is what issuers write who know no types.
func accessToken(typ string) bool {
	switch mediaType(typ) {
	case "", "jwt", "jose", "at+jwt":
		return true
	}
	return false
}

// mediaType is the type without the prefix that may be left out (RFC 7515,
// 4.1.9), in one case.
func mediaType(s string) string {
	return strings.TrimPrefix(strings.ToLower(s), "application/")
}

// wellFormed says whether the token is three parts of base64url.
func wellFormed(token string) bool {
	dots := 0
	for i := range len(token) {
		switch b := token[i]; {
		case b == '.':
			dots++
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '_':
		default:
			return false
		}
	}
	return dots == 2
}
