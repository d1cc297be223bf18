package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// What protovalidate says, and how this file says it. A rule's id means nothing to
// an operator.
var (
	ruleID     = regexp.MustCompile(` \([a-z0-9_.]+\)$`)
	inList     = regexp.MustCompile(`^must be in list \[(?:, )?(.*)\]$`)
	noPattern  = regexp.MustCompile("^does not match regex pattern `(.*)`$")
	noneIsSet  = "exactly one field is required in oneof"
	plainWords = map[string]string{
		"must be at least 1 characters":            "must not be empty",
		"must contain at least 1 item(s)":          "must not be empty",
		"must contain at least 1 pair(s)":          "must not be empty",
		"value is required":                        "is required",
		"repeated value must contain unique items": "has an entry twice",
	}
	index = regexp.MustCompile(`\[[^\]]*\]`)
)

// plain says in the words of the file what a validator says of the value at a path,
// such as `auth.issuers[0].keys: exactly one field is required in oneof (required)`.
func plain(text string, md protoreflect.MessageDescriptor) string {
	path, what, ok := strings.Cut(text, ": ")
	if !ok || strings.Count(path, "[") != strings.Count(path, "]") {
		return mask(ruleID.ReplaceAllString(text, "")) // No path, or cut within a key of a map.
	}
	what = ruleID.ReplaceAllString(what, "")
	if m := inList.FindStringSubmatch(what); m != nil {
		what = "must be one of: " + m[1]
	} else if m := noPattern.FindStringSubmatch(what); m != nil {
		what = "must match " + m[1]
	} else if what == noneIsSet {
		what = "state one of: " + strings.Join(choices(path, md), ", ")
		path, _ = cutLast(path) // A oneof's name is no key of the file.
	} else if w, known := plainWords[what]; known {
		what = w
	}
	// The names of fields are the schema's: one that ends in `token` hides nothing of
	// what is said. Keys of maps and values come from the file.
	return index.ReplaceAllStringFunc(path, mask) + ": " + mask(what)
}

func cutLast(path string) (before, last string) {
	i := strings.LastIndexByte(path, '.')
	return path[:max(i, 0)], path[i+1:]
}

// choices are the fields of the oneof at a path.
func choices(path string, md protoreflect.MessageDescriptor) (out []string) {
	parent, name := cutLast(index.ReplaceAllString(path, ""))
	for step := range strings.SplitSeq(parent, ".") {
		fd := md.Fields().ByName(protoreflect.Name(step))
		if fd != nil && fd.IsMap() {
			fd = fd.MapValue()
		}
		if fd == nil || fd.Message() == nil {
			break
		}
		md = fd.Message()
	}
	if one := md.Oneofs().ByName(protoreflect.Name(name)); one != nil {
		for i := range one.Fields().Len() {
			out = append(out, string(one.Fields().Get(i).Name()))
		}
	}
	return out
}

// unknown says that a name is none of those known, and which is probably meant.
func unknown(what, name string, known []string) string {
	text := fmt.Sprintf("unknown %s %q", what, mask(name))
	if len(known) == 0 {
		return text + "; there is none"
	}
	if near := nearest(name, known); near != "" {
		return text + fmt.Sprintf("; did you mean %q?", near)
	}
	const most = 40 // More would hide what is said.
	if len(known) > most {
		return text
	}
	return text + "; expected one of: " + strings.Join(known, ", ")
}

// nearest is the one of the names that a misspelt one probably means, or "".
func nearest(name string, names []string) string {
	best, least := "", max(2, len(name)/4)+1
	for _, n := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d < least && d < len(n) {
			best, least = n, d
		}
	}
	return best
}

// distance is how many letters have to be put in, taken out, changed or swapped with
// the next to turn a into b (optimal string alignment).
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}

// belongsAt is where in the file a key stands that is looked for in the wrong place,
// such as http.cors, or "".
func belongsAt(key string, root protoreflect.MessageDescriptor) string {
	type place struct {
		path string
		md   protoreflect.MessageDescriptor
	}
	seen := []protoreflect.FullName{root.FullName()}
	for level := []place{{"", root}}; len(level) > 0; {
		var next []place
		for _, p := range level {
			for i := range p.md.Fields().Len() {
				fd := p.md.Fields().Get(i)
				if string(fd.Name()) == key && p.path != "" {
					return p.path + key
				}
				if fd.Message() == nil || fd.IsList() || fd.IsMap() || slices.Contains(seen, fd.Message().FullName()) {
					continue
				}
				seen = append(seen, fd.Message().FullName())
				next = append(next, place{p.path + string(fd.Name()) + ".", fd.Message()})
			}
		}
		level = next
	}
	return ""
}
