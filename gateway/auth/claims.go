package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// claims are what the gateway reads of a token (RFC 7519). Names are matched
// exactly, which encoding/json's struct fields do not do, and a name that comes
// twice is refused: two readers could each believe another one. Whom the token
// stands for is read from the members by the issuer's mapping.
type claims struct {
	issuer        string
	audience      []string
	exp, nbf, iat *jwt.NumericDate
	members       map[string]json.RawMessage
}

var errClaims = errors.New("claims are malformed")

// UnmarshalJSON reads the payload of a token.
func (c *claims) UnmarshalJSON(raw []byte) error {
	members, err := object(raw)
	if err != nil {
		return err
	}
	c.members = members
	for name, v := range members {
		switch name {
		case "iss":
			err = text(v, &c.issuer)
		case "aud":
			c.audience, err = texts(v)
		case "exp":
			c.exp, err = date(v)
		case "nbf":
			c.nbf, err = date(v)
		case "iat":
			c.iat, err = date(v)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// The deepest nesting of a header or of claims. Real tokens have five levels or
// so, and each level costs a reader of the whole some stack.
const maxNesting = 32

// object splits a JSON object into its members.
func object(raw []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(raw) || nesting(raw) > maxNesting {
		return nil, errClaims
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errClaims
	}
	members := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errClaims
		}
		if _, twice := members[name]; twice {
			return nil, errClaims
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, errClaims
		}
		members[name] = v
	}
	if _, err := dec.Token(); err != nil {
		return nil, errClaims
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errClaims
	}
	return members, nil
}

// nesting is how deep lists and objects stand in one another.
func nesting(raw []byte) int {
	depth, deepest, quoted := 0, 0, false
	for i := 0; i < len(raw); i++ {
		switch b := raw[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '{', b == '[':
			depth++
			deepest = max(deepest, depth)
		case b == '}', b == ']':
			depth--
		}
	}
	return deepest
}

func text(raw json.RawMessage, to *string) error {
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, to) != nil {
		return errClaims
	}
	return nil
}

// texts reads a string or a list of strings.
func texts(raw json.RawMessage) ([]string, error) {
	var one string
	if text(raw, &one) == nil {
		return []string{one}, nil
	}
	var list []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &list) != nil {
		return nil, errClaims
	}
	out := make([]string, len(list))
	for i, v := range list {
		if err := text(v, &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// The last second of the year 9999: beyond it, arithmetic on times wraps.
const lastSecond = 253402300799

func date(raw json.RawMessage) (*jwt.NumericDate, error) {
	var f float64
	if len(raw) == 0 || raw[0] == 'n' || json.Unmarshal(raw, &f) != nil || f < 0 || f > lastSecond {
		return nil, errClaims
	}
	whole, frac := math.Modf(f)
	return &jwt.NumericDate{Time: time.Unix(int64(whole), int64(frac*1e9))}, nil
}

// validScope says whether s is a scope-token of RFC 6749, section 3.3.
func validScope(s string) bool {
	for i := range len(s) {
		if b := s[i]; b <= ' ' || b >= 0x7f || b == '"' || b == '\\' {
			return false
		}
	}
	return s != ""
}

// validSubject says whether s has 1 to 255 characters and no space or control
// character. Tenants have the same form. The replacement character stands for what JSON could not carry,
// so two subjects could meet in it.
func validSubject(s string) bool {
	n := 0
	for _, r := range s {
		if r <= ' ' || r == 0x7f || r == utf8.RuneError {
			return false
		}
		n++
	}
	return n >= 1 && n <= 255
}

// The methods of jwt.Claims.

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.exp, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.iat, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.nbf, nil }
func (c *claims) GetIssuer() (string, error)                   { return c.issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return "", nil } // Read by the mapping.
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.audience, nil }
