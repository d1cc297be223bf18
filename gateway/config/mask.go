package config

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// secrets are where a value, or a line of the file, may hold what must not get
// into an error, which ends in logs. They would rather hide too much: an operator
// has the file at hand. The first group stays, the rest is hidden.
var secrets = []*regexp.Regexp{
	// What stands before the last @ of a URL is a user's name and password; one
	// with spaces is no URL, and a password all the same.
	regexp.MustCompile(`(//).*@`),
	regexp.MustCompile(`(:)[^\s/]\S*@`),
	// password=… in a DSN or the parameters of a URL, quoted or not.
	regexp.MustCompile(`(?i)(` + secretName + `["']?\s*=\s*)(?:'(?:[^'\\]|\\.)*'?|"(?:[^"\\]|\\.)*"?|\S)\S*`),
	// password: … in YAML, which may have spaces.
	regexp.MustCompile(`(?i)((?:\ballow_credentials|` + secretName + `)["']?\s*:[ \t]*)\S.*`),
	regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)\S+`),
	// A whole API key, where its hash belongs.
	regexp.MustCompile(`(?i)()sluice_[a-z0-9-]+_[0-9a-z]+`),
	// A JSON Web Token, or a JSON Web Key in base64: {" is eyJ.
	regexp.MustCompile(`()\beyJ[\w-]{5,}(?:\.[\w-]*)*`),
}

//nolint:gosec // The names of secrets, not one of them.
const secretName = `(?:passw(?:or)?d|passphrase|pwd|secret|token|credentials?|api[_-]?key|private[_-]?key)`

// noSecret is a value that is none, whatever its key: `allow_credentials: true`.
var noSecret = regexp.MustCompile(`^(?:true|false|null|~)[\s,}\]]*$`)

// mask hides secrets of a text behind as many *, so that columns stay.
func mask(text string) string {
	for _, s := range secrets {
		text = s.ReplaceAllStringFunc(text, func(found string) string {
			keep := s.FindStringSubmatch(found)[1]
			rest := strings.TrimPrefix(found, keep)
			switch {
			case noSecret.MatchString(rest):
				return found
			case strings.HasPrefix(keep, "allow_credentials"): // allow_credentials is a switch.
				return keep + mask(rest)
			}
			stars := strings.Repeat("*", utf8.RuneCountInString(rest))
			if strings.HasSuffix(rest, "@") {
				stars = stars[1:] + "@"
			}
			return keep + stars
		})
	}
	return text
}

// masked are args without their secrets.
func masked(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case string:
			out[i] = mask(a)
		case error:
			out[i] = mask(a.Error())
		default:
			out[i] = a
		}
	}
	return out
}
