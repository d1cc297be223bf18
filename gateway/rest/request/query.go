package request

import (
	"errors"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// Parameter is one of a query.
type Parameter struct{ Key, Value string }

var errQuery = errors.New("is not a valid query string")

// ParseQuery appends the parameters of a query, in their order, to dst. As in
// net/url.ParseQuery, a semicolon separates nothing and is an error.
func ParseQuery(dst []Parameter, raw string) ([]Parameter, error) {
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if pair == "" {
			continue
		}
		if strings.Contains(pair, ";") {
			return nil, errQuery
		}
		key, value, _ := strings.Cut(pair, "=")
		var err1, err2 error
		key, err1 = url.QueryUnescape(key)
		value, err2 = url.QueryUnescape(value)
		if err1 != nil || err2 != nil {
			return nil, errQuery
		}
		dst = append(dst, Parameter{key, value})
	}
	return dst, nil
}

const (
	reasonUnknown   = "unknown query parameter"
	reasonNotQuery  = reasonUnknown + ": this call takes its fields from the body"
	reasonMalformed = reasonUnknown + ": it is malformed, for "
)

// resolve finds the field that a key names, by proto or JSON names with dots between
// them; an entry of a map has its key in brackets behind. The path is appended to the
// slice. What is wrong with the key is reason.
func (p *Program) resolve(path []transcode.Field, key string) (_ []transcode.Field, entry, reason string) {
	rest := key
	for {
		n := strings.IndexAny(rest, ".[")
		name := rest
		if n >= 0 {
			name = rest[:n]
		}
		if name == "" {
			return path, "", reasonMalformed + "a name is missing"
		}
		var f transcode.Field
		if len(path) == 0 {
			f = p.plan.Named(name)
		} else {
			f = path[len(path)-1].Named(name)
		}
		if !f.Exists() {
			return path, "", reasonUnknown
		}
		if path = append(path, f); len(path) > p.depth {
			return path, "", "leads through too many messages"
		}
		switch {
		case n < 0 && f.IsMap():
			return path, "", "is a map: give an entry, as " + key + "[key]"
		case n < 0:
			return path, "", ""
		case rest[n] == '[':
			entry, reason = bracketed(f, rest[n+1:])
			return path, entry, reason
		case !f.IsMessage():
			return path, "", reasonUnknown
		}
		rest = rest[n+1:]
	}
}

// bracketed reads the key of an entry, behind its bracket.
func bracketed(f transcode.Field, rest string) (entry, reason string) {
	entry, closed := strings.CutSuffix(rest, "]")
	switch {
	case f.IsList() && rest == "]":
		return "", reasonUnknown + ": values of a list are given without brackets, each by a parameter of its own"
	case !f.IsMap():
		return "", reasonUnknown + ": only maps have keys in brackets"
	case !closed:
		return "", reasonMalformed + "] is missing at its end"
	}
	return entry, ""
}

// sameKey is one text for all that are the same key of a map, such as 1 and 01.
func sameKey(f transcode.Field, entry string) string {
	if !f.IsMap() {
		return entry
	}
	switch f.Descriptor().MapKey().Kind() {
	case protoreflect.StringKind, protoreflect.BoolKind:
		return entry
	}
	if n, err := strconv.ParseInt(entry, 10, 64); err == nil {
		return strconv.FormatInt(n, 10)
	}
	if n, err := strconv.ParseUint(entry, 10, 64); err == nil {
		return strconv.FormatUint(n, 10)
	}
	return entry // AppendText refuses it.
}

// valueless says why no text is a value of the field; "" is that one can be.
func valueless(f transcode.Field, key string) string {
	if f.IsText() {
		return ""
	}
	switch md := f.Descriptor().Message(); {
	case f.IsMap():
		return "is a map of messages, which a query cannot give"
	case f.IsList():
		return "is a list of messages, which a query cannot give"
	case md.Fields().Len() == 0: // It has the name of a well-known type, and is none.
		return "is of a type that a query cannot give"
	default:
		return "is a message: name one of its fields, such as " + key + "." + string(md.Fields().Get(0).Name())
	}
}
