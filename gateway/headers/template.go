package headers

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Values are what templates name.
type Values struct {
	// Call is the request: its id, principal, client, variant and headers. Needed.
	Call *policy.Call
	// Route is the route's name: an RPC's is `package.Service/Method`.
	Route string
	// Path returns a variable of the request's path; nil where there are none.
	Path func(name string) string
}

// template is text with variables between it.
type template struct {
	constant bool
	text     string // all of a constant
	parts    []part
}

// part is text, or a variable where value is not nil.
type part struct {
	text  string
	value func(v *Values, p *part) string
	label string // a variable as the template writes it
	name  string // of a variable of the path
	key   policy.Header
}

// ofCall are variables that say nothing of the caller: whose call it is, and where it
// goes.
var ofCall = map[string]bool{"request_id": true, "route": true, "variant": true}

var variables = map[string]func(v *Values, p *part) string{
	"request_id":        func(v *Values, _ *part) string { return v.Call.RequestID },
	"principal.subject": func(v *Values, _ *part) string { return v.principal().Subject },
	"principal.tenant":  func(v *Values, _ *part) string { return v.principal().Tenant },
	"principal.issuer":  func(v *Values, _ *part) string { return v.principal().Issuer },
	"route":             func(v *Values, _ *part) string { return v.Route },
	"variant":           func(v *Values, _ *part) string { return v.Call.Variant },
	"client.address": func(v *Values, _ *part) string {
		if !v.Call.Client.IsValid() {
			return ""
		}
		return v.Call.Client.String()
	},
}

func (v *Values) principal() *policy.Principal {
	if v.Call.Principal == nil {
		return policy.Anonymous
	}
	return v.Call.Principal
}

func headerValue(v *Values, p *part) string {
	if v.Call.Headers == nil {
		return ""
	}
	have := v.Call.Headers(p.key.On(v.Call.Edge))
	if len(have) == 1 {
		return have[0]
	}
	return strings.Join(have, ", ") // Several lines are one list (RFC 9110, 5.3): none is lost.
}

func pathValue(v *Values, p *part) string {
	if v.Path == nil {
		return ""
	}
	return v.Path(p.name)
}

// parse reads a template: {name} is a variable, {{ and }} are braces.
func parse(s string, scope Scope) (template, error) {
	if len(s) > MaxValueBytes {
		return template{}, fmt.Errorf("the value has %d bytes, more than %d", len(s), MaxValueBytes)
	}
	if !valid(s, scope.GRPC) {
		return template{}, errors.New("the value holds a character that no header may (a line break, another control, or beyond ASCII in metadata)")
	}
	if strings.TrimSpace(s) == "" {
		return template{}, errors.New("the value is empty: remove takes a header away")
	}
	var t template
	var text strings.Builder
	end := func() {
		if text.Len() > 0 {
			t.parts = append(t.parts, part{text: text.String()})
			text.Reset()
		}
	}
	for rest := s; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			text.WriteString(rest)
			break
		}
		text.WriteString(rest[:i])
		if i+1 < len(rest) && rest[i] == rest[i+1] {
			text.WriteByte(rest[i])
			rest = rest[i+2:]
			continue
		}
		name, after, ok := strings.Cut(rest[i+1:], "}")
		if rest[i] == '}' || !ok {
			return t, errors.New("a variable stands between { and }; a brace itself is written twice") // The value may be a secret.
		}
		end()
		p, err := variable(name, scope)
		if err != nil {
			return t, err
		}
		t.parts = append(t.parts, p)
		rest = after
	}
	end()
	return t.fold(), nil
}

// fold makes a template without variables the text it is.
func (t template) fold() template {
	if len(t.parts) == 1 && t.parts[0].value == nil {
		return template{constant: true, text: strings.TrimSpace(t.parts[0].text)}
	}
	return t
}

func variable(name string, scope Scope) (part, error) {
	if value := variables[name]; value != nil {
		return part{value: value, label: name}, nil
	}
	if header, ok := strings.CutPrefix(name, "header."); ok {
		lower := strings.ToLower(header)
		switch {
		case !httpguts.ValidHeaderFieldName(header):
			return part{}, errors.New("{header.NAME}: the name of a request header follows the point")
		case secret[lower], slices.ContainsFunc(scope.Secret, func(s string) bool { return strings.EqualFold(s, header) }):
			return part{}, fmt.Errorf("{%s}: a credential is not passed on; services are told who calls by the assertion", name)
		}
		return part{value: headerValue, label: "header." + lower, key: policy.NewHeader(header)}, nil
	}
	if variable, ok := strings.CutPrefix(name, "path."); ok {
		if slices.Contains(scope.PathVariables, variable) {
			return part{value: pathValue, label: name, name: variable}, nil
		}
		return part{}, fmt.Errorf("{path.NAME}: the route's path has no such variable: it has %q", scope.PathVariables)
	}
	return part{}, errors.New("what stands between { and } is none of {request_id}, {principal.subject}, {principal.tenant}, {principal.issuer}, {client.address}, {route}, {variant}, {header.NAME}, {path.NAME}")
}

func (t *template) render(v *Values) string {
	if len(t.parts) == 1 {
		return t.parts[0].render(v)
	}
	var b strings.Builder
	for i := range t.parts {
		b.WriteString(t.parts[i].render(v))
		if b.Len() > MaxValueBytes { // Too long, whatever follows.
			break
		}
	}
	return b.String()
}

func (p *part) render(v *Values) string {
	if p.value == nil {
		return p.text
	}
	return p.value(v, p)
}
