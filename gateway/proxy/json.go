package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"
)

// JSONRules change a JSON object, in the order remove, rename, set. Paths are names
// with dots between them.
type JSONRules struct {
	// Set puts JSON values; objects on the way that are missing are made.
	Set map[string]string
	// Remove takes fields away.
	Remove []string
	// Rename moves fields, in the order of the paths they come from.
	Rename map[string]string
}

// BodyError says where a JSON body is not what its rules need.
type BodyError struct {
	// Path is where, empty for the whole; Reason what is wrong there.
	Path, Reason string
}

func (e *BodyError) Error() string {
	if e.Path == "" {
		return "the body " + e.Reason
	}
	return e.Path + " " + e.Reason
}

const notObject = "is no JSON object"

// transform is JSONRules, compiled; nil changes nothing.
type transform struct {
	remove [][]string
	rename []move
	set    []value
}

type move struct{ from, to []string }

type value struct {
	path []string
	json json.RawMessage
}

func compileJSON(r JSONRules) (*transform, error) {
	if len(r.Set)+len(r.Remove)+len(r.Rename) == 0 {
		return nil, nil //nolint:nilnil // No rules, no transform.
	}
	t := &transform{}
	errs := []error{once("remove", r.Remove)}
	path := func(rule, s string) []string {
		names := strings.Split(s, ".")
		if slices.Contains(names, "") {
			errs = append(errs, fmt.Errorf("%s %q: a path is names with single dots between them", rule, s))
		}
		return names
	}
	for _, s := range r.Remove {
		t.remove = append(t.remove, path("remove", s))
	}
	for _, from := range slices.Sorted(maps.Keys(r.Rename)) {
		to := r.Rename[from]
		if within(to, from) {
			errs = append(errs, fmt.Errorf("rename %q to %q: a field cannot go into itself", from, to))
		}
		t.rename = append(t.rename, move{path("rename", from), path("rename", to)})
	}
	for _, at := range slices.Sorted(maps.Keys(r.Set)) {
		if !json.Valid([]byte(r.Set[at])) {
			errs = append(errs, fmt.Errorf("set %q: its value is no JSON: write text in quotes, such as '\"EUR\"'", at)) // It may be a secret.
		}
		t.set = append(t.set, value{path("set", at), json.RawMessage(r.Set[at])})
	}
	return t, errors.Join(append(errs, r.overlap())...)
}

// within says whether a path is another one, or leads into it.
func within(path, other string) bool { return path == other || strings.HasPrefix(path, other+".") }

// overlap refuses rules of which one would undo another: which of the two counts would
// depend on their order, and nobody has written one.
func (r *JSONRules) overlap() error {
	var errs []error
	for from, to := range r.Rename {
		for otherFrom, other := range r.Rename {
			if from < otherFrom && (within(to, other) || within(other, to)) {
				errs = append(errs, fmt.Errorf("rename %q and %q: both go to %q", from, otherFrom, other))
			}
			if from != otherFrom && (within(to, otherFrom) || within(otherFrom, to)) {
				errs = append(errs, fmt.Errorf("rename %q to %q: that is renamed itself", from, to))
			}
		}
		for at := range r.Set {
			if within(to, at) || within(at, to) {
				errs = append(errs, fmt.Errorf("rename %q to %q: set puts a value there, too", from, to))
			}
		}
	}
	for at := range r.Set {
		for other := range r.Set {
			if at != other && within(at, other) {
				errs = append(errs, fmt.Errorf("set %q and %q: one is a part of the other", other, at))
			}
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// apply changes a body, which must be one JSON object. What no rule names stays byte for
// byte, and in its order. An object that a rule looks into may have no name twice: the
// service could read the one that the rule did not. The error is a *BodyError.
func (t *transform) apply(body []byte) ([]byte, error) {
	if !json.Valid(body) {
		return nil, &BodyError{"", "is no JSON, or has something behind it"}
	}
	root, err := openObject(body, "")
	if err != nil {
		return nil, err
	}
	if err := t.change(root); err != nil {
		return nil, err
	}
	return root.appendTo(make([]byte, 0, len(body))), nil
}

func (t *transform) change(root *object) error {
	for _, path := range t.remove {
		in, err := root.parent(path, false)
		if err != nil {
			return err
		}
		if in != nil {
			in.take(path[len(path)-1])
		}
	}
	for _, m := range t.rename {
		from, err := root.parent(m.from, false)
		if err != nil {
			return err
		}
		if from == nil {
			continue
		}
		moved, ok := from.take(m.from[len(m.from)-1])
		if !ok {
			continue
		}
		to, err := root.parent(m.to, true)
		if err != nil {
			return err
		}
		to.put(m.to[len(m.to)-1], moved)
	}
	for _, s := range t.set {
		in, err := root.parent(s.path, true)
		if err != nil {
			return err
		}
		in.put(s.path[len(s.path)-1], member{value: s.json})
	}
	return nil
}

// isJSON accepts application/json and types with the suffix +json.
func isJSON(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == "application/json" || strings.HasSuffix(t, "+json"))
}
