package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

const (
	maxClaimPath     = 512 // Bytes of a path.
	maxClaimNames    = 8   // Names of a path.
	maxSubjectPrefix = 64  // Bytes.
)

// ClaimPaths say where the tokens of an issuer name their caller. Each path is
// as [CompileClaimPath] reads it. The zero value is what RFC 7519 and RFC 9068
// say: subject `sub`, scopes `scope`, `scp` and `scopes` together, no tenant.
type ClaimPaths struct {
	// Subject is the path of the subject. A token without it is refused.
	Subject string
	// Scopes are the paths of the scopes, of all of them together: lists of
	// strings, or strings with spaces. What is no scope-token of RFC 6749 is left
	// out: it can be no rule's scope, and a person whose role is called "Store
	// Manager" may still call what other roles allow. Under the default paths it
	// refuses the token, which then breaks the RFC that names those claims.
	Scopes []string
	// Tenant is the path of the tenant. A token without it is of no tenant.
	Tenant string
	// Audience is the path of the claim that names whom a token is for, in place of
	// `aud`, such as `client_id`. A token without it is refused, and an `aud` beside it
	// must hold too.
	Audience string
	// SubjectSpaces accepts spaces within subjects.
	SubjectSpaces bool
	// SubjectMaxBytes bounds subjects, with their prefix, in bytes, [MaxSubjectBytes] at
	// most; 0 means 255 characters.
	SubjectMaxBytes int
	// SubjectPrefix is put before each subject, so that the issuer cannot speak
	// for another's: at most 64 printable characters.
	SubjectPrefix string
}

// ClaimPath is where in a token's payload a claim stands.
type ClaimPath struct{ names []string }

// CompileClaimPath reads names with dots between them, such as
// `realm_access.roles`. Names of other than ASCII letters, digits and _-:$@ are
// JSON strings in brackets: `["https://example.com/roles"]`,
// `resource_access["my.app"].roles`.
func CompileClaimPath(s string) (ClaimPath, error) {
	var p ClaimPath
	if len(s) > maxClaimPath {
		return p, fmt.Errorf("a claim path of %d bytes; want %d at most", len(s), maxClaimPath)
	}
	for rest := s; rest != "" || len(p.names) == 0; {
		var name string
		var err error
		if strings.HasPrefix(rest, "[") {
			name, rest, err = bracketed(rest)
		} else {
			if len(p.names) > 0 && !strings.HasPrefix(rest, ".") {
				err = fmt.Errorf("want a dot or a bracket at %q", rest)
			} else if len(p.names) > 0 {
				rest = rest[1:]
			}
			if err == nil {
				name, rest, err = bare(rest)
			}
		}
		if err != nil {
			return ClaimPath{}, fmt.Errorf("claim path %q: %w", s, err)
		}
		p.names = append(p.names, name)
	}
	if len(p.names) > maxClaimNames {
		return ClaimPath{}, fmt.Errorf("claim path %q: %d names; want %d at most", s, len(p.names), maxClaimNames)
	}
	return p, nil
}

func bare(s string) (name, rest string, err error) {
	n := 0
	for n < len(s) && bareByte(s[n]) {
		n++
	}
	if n == 0 {
		return "", "", fmt.Errorf(`want a name at %q; what is not letters, digits and _-:$@ goes into ["…"]`, s)
	}
	return s[:n], s[n:], nil
}

func bareByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("_-:$@", b) >= 0
}

func bracketed(s string) (name, rest string, err error) {
	quoted := s[1:]
	if !strings.HasPrefix(quoted, `"`) {
		return "", "", fmt.Errorf(`want ["name"] at %q; elements of lists cannot be chosen`, s)
	}
	end := 1
	for end < len(quoted) && quoted[end] != '"' {
		if quoted[end] == '\\' {
			end++
		}
		end++
	}
	if end+1 >= len(quoted) || quoted[end+1] != ']' {
		return "", "", fmt.Errorf(`%q does not end in "]`, s)
	}
	if err := json.Unmarshal([]byte(quoted[:end+1]), &name); err != nil {
		return "", "", fmt.Errorf("%s is not a JSON string", quoted[:end+1])
	}
	// Names of a token that JSON could not carry would meet in that character.
	if name == "" || strings.ContainsRune(name, utf8.RuneError) {
		return "", "", fmt.Errorf("%s is not the name of a claim", quoted[:end+1])
	}
	return name, quoted[end+2:], nil
}

// String is the path in the form that CompileClaimPath reads.
func (p ClaimPath) String() string {
	var b strings.Builder
	for i, name := range p.names {
		if rest := strings.TrimLeftFunc(name, func(r rune) bool { return r < utf8.RuneSelf && bareByte(byte(r)) }); rest == "" {
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(name)
			continue
		}
		quoted, _ := json.Marshal(name) // A string always can be.
		b.WriteByte('[')
		b.Write(quoted)
		b.WriteByte(']')
	}
	return b.String()
}

// find returns what stands at the path, or nil where nothing does: null says
// nothing. A member that comes twice, in any object on the way, is an error, and
// so is a name within what is no object.
func (p ClaimPath) find(members map[string]json.RawMessage) (json.RawMessage, error) {
	for i, name := range p.names {
		v, ok := members[name]
		if !ok || string(v) == "null" {
			return nil, nil
		}
		if i == len(p.names)-1 {
			return v, nil
		}
		var err error
		if members, err = object(v); err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil, nil
}

// mapping is ClaimPaths, compiled.
type mapping struct {
	subject ClaimPath
	scopes  []ClaimPath
	strict  bool // Refuse what is no scope-token.
	tenant  ClaimPath
	// audience has no names where it is aud.
	audience ClaimPath
	prefix   string
	form     subjectForm
}

func (p ClaimPaths) compile() (*mapping, error) {
	m := &mapping{prefix: p.SubjectPrefix, strict: len(p.Scopes) == 0, form: subjectForm{p.SubjectSpaces, p.SubjectMaxBytes}}
	if p.SubjectMaxBytes < 0 || p.SubjectMaxBytes > MaxSubjectBytes {
		return nil, fmt.Errorf("subjects of up to %d bytes; want %d at most", p.SubjectMaxBytes, MaxSubjectBytes)
	}
	if len(m.prefix) > maxSubjectPrefix || (m.prefix != "" && !validSubject(m.prefix)) {
		return nil, errors.New("the prefix of subjects has " + strconv.Itoa(maxSubjectPrefix) + " bytes at most, and no spaces")
	}
	subject, scopes := p.Subject, p.Scopes
	if subject == "" {
		subject = "sub"
	}
	if len(scopes) == 0 {
		scopes = []string{"scope", "scp", "scopes"}
	}
	var err error
	if m.subject, err = CompileClaimPath(subject); err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	for _, s := range scopes {
		path, err := CompileClaimPath(s)
		if err != nil {
			return nil, fmt.Errorf("scopes: %w", err)
		}
		m.scopes = append(m.scopes, path)
	}
	if p.Audience != "" {
		if m.audience, err = CompileClaimPath(p.Audience); err != nil {
			return nil, fmt.Errorf("audience: %w", err)
		}
	}
	if p.Tenant != "" {
		if m.tenant, err = CompileClaimPath(p.Tenant); err != nil {
			return nil, fmt.Errorf("tenant: %w", err)
		}
	}
	return m, nil
}

// identity is whom claims name.
type identity struct {
	subject, tenant string
	scopes          []string
}

var errTenant = errors.New("the tenant is not acceptable")

func (m *mapping) identity(c *claims) (id identity, err error) {
	raw, err := m.subject.find(c.members)
	if err != nil {
		return id, err
	}
	if raw == nil || text(raw, &id.subject) != nil || !m.form.valid(id.subject) {
		return id, jwt.ErrTokenInvalidSubject
	}
	// With the prefix, too, it must be one that services accept.
	if id.subject = m.prefix + id.subject; !m.form.valid(id.subject) {
		return id, jwt.ErrTokenInvalidSubject
	}
	if raw, err = m.tenant.find(c.members); err != nil {
		return id, err
	}
	if raw != nil && (text(raw, &id.tenant) != nil || !validSubject(id.tenant)) {
		return id, errTenant
	}
	for _, path := range m.scopes {
		if raw, err = path.find(c.members); err != nil {
			return id, err
		}
		if raw == nil {
			continue
		}
		if id.scopes, err = m.appendScopes(id.scopes, raw); err != nil {
			return id, fmt.Errorf("%s: %w", path, err)
		}
	}
	return id, nil
}

// appendScopes reads a space-separated string (RFC 8693) or, as some issuers
// write them, a list. A list's element with a space in it is never split: it is
// one name, and joined with the others it would be two scopes.
func (m *mapping) appendScopes(to []string, raw json.RawMessage) ([]string, error) {
	list, err := texts(raw)
	if err != nil {
		return nil, err
	}
	if raw[0] == '"' {
		list = strings.FieldsFunc(list[0], func(r rune) bool { return r == ' ' })
	}
	for _, s := range list {
		switch {
		case validScope(s):
			to = append(to, s)
		case m.strict:
			return nil, errClaims
		}
	}
	return to, nil
}
