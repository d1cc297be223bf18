package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
	"unicode"
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
	audienceAt    ClaimPath // In place of aud, where it has names; set before reading.
	instead       []string  // What stands there.
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
	if len(c.audienceAt.names) == 0 {
		return nil
	}
	v, err := c.audienceAt.find(members)
	if err != nil || v == nil {
		return err
	}
	if c.instead, err = texts(v); err != nil {
		return fmt.Errorf("%s: %w", c.audienceAt, err)
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

// MaxSubjectBytes is the longest subject that a setting allows.
const MaxSubjectBytes = 1024

// subjectForm says which subjects are acceptable. The zero value is the form that issuers
// have by default: 1 to 255 characters and no spaces.
type subjectForm struct {
	spaces   bool // within; never at an end, where HTTP would cut them off
	maxBytes int  // 0 is 255 characters
}

// written is the form of subjects that an operator writes down: of API keys and of
// certificates.
var written = subjectForm{spaces: true, maxBytes: MaxSubjectBytes}

// valid says whether s has the form. Control characters and line breaks are in none: a
// subject goes into headers and logs. The replacement character stands for what JSON
// could not carry, so two subjects could meet in it.
func (f subjectForm) valid(s string) bool {
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	if s == "" || unicode.IsSpace(first) || unicode.IsSpace(last) {
		return false
	}
	n := 0
	for _, r := range s {
		if (r == ' ' && !f.spaces) || unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError {
			return false
		}
		n++
	}
	if f.maxBytes > 0 {
		return len(s) <= f.maxBytes
	}
	return n <= 255
}

// validSubject says whether s has the default form. Tenants have it always.
func validSubject(s string) bool { return subjectForm{}.valid(s) }

// The methods of jwt.Claims.

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.exp, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.iat, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.nbf, nil }
func (c *claims) GetIssuer() (string, error)                   { return c.issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return "", nil } // Read by the mapping.

// GetAudience returns what one of the issuer's audiences must be among: aud, or the claim
// that is configured in its place.
func (c *claims) GetAudience() (jwt.ClaimStrings, error) {
	if len(c.audienceAt.names) > 0 {
		return c.instead, nil
	}
	return c.audience, nil
}

// audienceHolds says whether an aud beside the claim in its place names one of the
// audiences, too: a token whose aud is somebody else is not for us (RFC 7519, 4.1.3),
// whichever client it was given to.
func (c *claims) audienceHolds(audiences []string) bool {
	if _, ok := c.members["aud"]; !ok || len(c.audienceAt.names) == 0 {
		return true
	}
	return slices.ContainsFunc(c.audience, func(a string) bool { return slices.Contains(audiences, a) })
}
