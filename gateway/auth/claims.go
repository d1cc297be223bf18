package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// claims are what the gateway reads of a token (RFC 7519, RFC 9068). Names are
// matched exactly, which encoding/json's struct fields do not do, and a name
// that comes twice is refused: two readers could each believe another one.
type claims struct {
	issuer, subject string
	audience        []string
	exp, nbf, iat   *jwt.NumericDate
	scopes          []string
}

var errClaims = errors.New("claims are malformed")

// UnmarshalJSON reads the payload of a token.
func (c *claims) UnmarshalJSON(raw []byte) error {
	members, err := object(raw)
	if err != nil {
		return err
	}
	for name, v := range members {
		switch name {
		case "iss":
			err = text(v, &c.issuer)
		case "sub":
			err = text(v, &c.subject)
		case "aud":
			c.audience, err = texts(v)
		case "exp":
			c.exp, err = date(v)
		case "nbf":
			c.nbf, err = date(v)
		case "iat":
			c.iat, err = date(v)
		case "scope", "scp", "scopes":
			err = c.addScopes(v)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// object splits a JSON object into its members.
func object(raw []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(raw) {
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
	return members, nil
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

// addScopes reads a space-separated string (RFC 8693) or, as some issuers
// write them, a list. A list's element with a space in it is refused: joined
// with the others it would be two scopes.
func (c *claims) addScopes(raw json.RawMessage) error {
	var one string
	list, err := texts(raw)
	if err != nil {
		return err
	}
	if text(raw, &one) == nil {
		list = slices.DeleteFunc(strings.Split(one, " "), func(s string) bool { return s == "" })
	}
	for _, s := range list {
		if !validScope(s) {
			return errClaims
		}
	}
	c.scopes = append(c.scopes, list...)
	return nil
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
// character. The replacement character stands for what JSON could not carry,
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
func (c *claims) GetSubject() (string, error)                  { return c.subject, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.audience, nil }
