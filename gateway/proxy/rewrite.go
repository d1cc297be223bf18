package proxy

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/gateway/route"
)

// rewriter is a Rewrite, compiled; the zero one changes nothing.
type rewriter struct {
	prefix   bool
	from     int    // bytes of the decoded prefix that is replaced
	to       string // what is sent in its place
	regex    *regexp.Regexp
	template string // its text is as it is sent
}

func compileRewrite(w Rewrite, m *matcher) (rewriter, error) {
	switch {
	case w.Prefix == "" && w.Regex == "":
		return rewriter{}, nil
	case w.Prefix != "" && w.Regex != "":
		return rewriter{}, errors.New("rewrite: prefix and regex exclude each other")
	case w.Prefix != "":
		if !m.byPrefix {
			return rewriter{}, errors.New("rewrite.prefix needs match.prefix")
		}
		prefix := strings.TrimRight(w.Prefix, "/")
		if _, err := written("rewrite.prefix", prefix+"/"); err != nil {
			return rewriter{}, err
		}
		to, err := sendable(prefix)
		return rewriter{prefix: true, from: len(m.prefix), to: to}, err
	}
	if m.regex == nil {
		return rewriter{}, errors.New("rewrite.regex needs match.regex")
	}
	for _, name := range references.FindAllStringSubmatch(w.Regex, -1) {
		ref := name[1] + name[2]
		if ref == "" || ref == "0" {
			continue
		}
		if n := m.regex.NumSubexp(); !slices.Contains(m.regex.SubexpNames(), ref) && !isNumberUpTo(ref, n) {
			return rewriter{}, fmt.Errorf("rewrite.regex: match.regex has no group %q (write ${1}x for a group before a letter)", ref)
		}
	}
	template, err := sendableText(w.Regex)
	return rewriter{regex: m.regex, template: template}, err
}

var references = regexp.MustCompile(`\$(?:\{(\w*)\}|(\w+))`)

func isNumberUpTo(s string, n int) bool {
	v := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' || v > n {
			return false
		}
		v = v*10 + int(s[i]-'0')
	}
	return v <= n
}

// sendable returns a path of the configuration as it is sent: as it is written, or
// encoded where it holds what a path on the wire cannot, such as a space.
func sendable(path string) (string, error) {
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return "", fmt.Errorf("rewrite %q: %w", path, err)
	}
	return (&url.URL{Path: decoded, RawPath: path}).EscapedPath(), nil
}

// sendableText is sendable for what stands between the references of a template.
func sendableText(template string) (string, error) {
	var errs []error
	out := templateParts.ReplaceAllStringFunc(template, func(part string) string {
		if part[0] == '$' {
			return part
		}
		s, err := sendable(part)
		errs = append(errs, err)
		return s
	})
	return out, errors.Join(errs...)
}

// templateParts are what Regexp.Expand tells apart: `$$`, references, other dollars,
// text.
var templateParts = regexp.MustCompile(`\$\$|\$\{\w*\}|\$\w+|\$|[^$]+`)

// path returns the path to send. Path is what routing and policy read, sent the same as
// the caller wrote it: what of it is passed on stays as it was written. What a regular
// expression makes of one is read again as if it had come so: two groups may make a dot
// segment.
func (w *rewriter) path(path, sent string) (string, error) {
	switch {
	case w.prefix:
		if out := w.to + sent[sentOffset(sent, w.from):]; out != "" {
			return out, nil
		}
		return "/", nil
	case w.regex != nil:
		m := w.regex.FindStringSubmatchIndex(path)
		for i := range m {
			if m[i] > 0 && len(sent) > len(path) {
				m[i] = sentOffset(sent, m[i])
			}
		}
		out := string(w.regex.ExpandString(nil, w.template, sent, m))
		again, err := route.Normalize(out)
		if err != nil {
			return "", err
		}
		return out, odd(again)
	}
	return sent, nil
}

// sentOffset is where in the path as it was sent the decoded path's byte n stands.
func sentOffset(sent string, n int) int {
	at := 0
	for ; n > 0; n-- {
		if sent[at] == '%' {
			at += len("41")
		}
		at++
	}
	return at
}
