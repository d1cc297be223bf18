package gateway

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// WriteText writes the explanation for people to read.
func (e *Explanation) WriteText(w io.Writer) error {
	p := &printer{}
	p.line("", "%s from %s", e.Request, e.From)
	p.route(e)
	if e.Call != nil {
		p.call(e.Call, "")
	}
	p.answer(e)
	for _, l := range e.Log {
		p.line("", "log        %s", l)
	}
	_, err := io.WriteString(w, p.b.String())
	return err
}

// printer collects lines: a word, and what belongs to it in a column of its own.
type printer struct{ b strings.Builder }

func (p *printer) line(indent, format string, args ...any) {
	p.b.WriteString(strings.TrimRight(indent+fmt.Sprintf(format, args...), " ") + "\n")
}

func (p *printer) entry(indent, word, format string, args ...any) {
	p.line(indent, "%-10s %s", word, fmt.Sprintf(format, args...))
}

func (p *printer) route(e *Explanation) {
	switch r := e.Route; {
	case r != nil:
		var params []string
		for _, name := range slices.Sorted(maps.Keys(r.Params)) {
			params = append(params, name+" = "+strconv.Quote(r.Params[name]))
		}
		text := r.Verb + " " + r.Template
		if len(params) > 0 {
			text += " with " + strings.Join(params, ", ")
		}
		p.entry("", "route", "%s", text)
	case e.Call == nil || e.Call.Method == "":
		p.entry("", "route", "none")
	}
}

func (p *printer) call(c *ExplainedCall, indent string) {
	if c.Method != "" {
		p.rule(c, indent)
		if indent == "" {
			p.entry(indent, "principal", "%s", c.Principal)
		}
	}
	if indent == "" {
		p.entry(indent, "client", "%s", c.Client)
	}
	for _, s := range c.Steps {
		p.step(s, indent)
	}
	if u := c.Upstream; u != nil {
		p.entry(indent, "upstream", "%s at %s, within %s", u.Method, u.Target, u.Deadline)
		for _, m := range u.Messages {
			p.entry(indent, "", "%s", m)
		}
	}
	if len(c.Branches) > 0 {
		p.entry(indent, "branches", "as far as services that answer with empty messages let it come")
	}
	for _, b := range c.Branches {
		p.call(b, indent+"  ")
	}
}

func (p *printer) rule(c *ExplainedCall, indent string) {
	r := c.Rule
	p.entry(indent, "method", "%s", c.Method)
	text := r.Require
	if r.Owner != "" {
		text += ", owner " + r.Owner
	}
	if r.Tenant != "" {
		text += ", tenant " + r.Tenant
	}
	p.entry(indent, "rule", "%s", text)
	for _, cond := range r.Conditions {
		p.entry(indent, "", "condition %s: %s", cond.ID, strings.Join(strings.Fields(cond.Expression), " "))
	}
	if r.Passes != "" {
		p.entry(indent, "passes", "%s", r.Passes)
	}
	if r.LimitClass == "" || indent != "" { // A branch is not counted.
		return
	}
	text = fmt.Sprintf("%s, cost %d", r.LimitClass, r.LimitCost)
	if r.Limit != "" {
		text += ": " + r.Limit
	}
	p.entry(indent, "limit", "%s", text)
}

// String says who calls.
func (p ExplainedPrincipal) String() string {
	if p.Subject == "" {
		return "anonymous"
	}
	words := []string{p.Subject}
	if strings.Contains(p.Subject, " ") { // Or "ada of tenant acme" could be one subject.
		words[0] = strconv.Quote(p.Subject)
	}
	for _, part := range []struct{ name, value string }{
		{"of tenant", p.Tenant}, {"with the API key", p.APIKey}, {"by issuer", p.Issuer}, {"with scopes", strings.Join(p.Scopes, " ")},
	} {
		if part.value != "" {
			words = append(words, part.name, part.value)
		}
	}
	if p.Assumed {
		words = append(words, "(assumed)")
	}
	return strings.Join(words, " ")
}

func (p *printer) step(s ExplainedStep, indent string) {
	if s.OK {
		p.entry(indent, s.Phase, "%-14s ok", s.Name)
		return
	}
	reason := s.Code
	if s.Reason != "" {
		reason += " " + s.Reason
	}
	p.entry(indent, s.Phase, "%-14s REFUSED %s: %s", s.Name, reason, s.Message)
	if s.Why != "" {
		p.entry(indent, "", "%-14s for operators: %s", "", s.Why)
	}
}

func (p *printer) answer(e *Explanation) {
	switch called := e.Call != nil && e.Call.Upstream != nil; {
	case called && e.Answer.Refused: // Only a composite that runs can say no.
		p.entry("", "answer", "%s, because of a branch", e.Answer.Status)
	case called:
		p.entry("", "answer", "the service's; a success is %s", e.Answer.Status)
	default:
		p.entry("", "answer", "%s, without a call to any service", e.Answer.Status)
	}
	for _, h := range e.Answer.Header {
		p.entry("", "", "%s: %s", h.Name, h.Value)
	}
	if e.Answer.Body != "" {
		p.entry("", "", "%s", e.Answer.Body)
	}
}
