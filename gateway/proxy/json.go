package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	var errs []error
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
		if from == to || strings.HasPrefix(to, from+".") {
			errs = append(errs, fmt.Errorf("rename %q to %q: a field cannot go into itself", from, to))
		}
		t.rename = append(t.rename, move{path("rename", from), path("rename", to)})
	}
	for _, at := range slices.Sorted(maps.Keys(r.Set)) {
		if !json.Valid([]byte(r.Set[at])) {
			errs = append(errs, fmt.Errorf("set %q: %s is no JSON value: write text in quotes, such as '\"EUR\"'", at, r.Set[at]))
		}
		t.set = append(t.set, value{path("set", at), json.RawMessage(r.Set[at])})
	}
	return t, errors.Join(errs...)
}

// apply changes a body, which must be one JSON object. Numbers stay as they are
// written; of a name that is there twice the last counts. The error is a *BodyError.
func (t *transform) apply(body []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var root any
	if err := d.Decode(&root); err != nil {
		return nil, &BodyError{"", "is no JSON"}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, &BodyError{"", "has something behind its JSON"}
	}
	object, ok := root.(map[string]any)
	if !ok {
		return nil, &BodyError{"", notObject}
	}
	if err := t.change(object); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.Grow(len(body))
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(object); err != nil {
		return nil, &BodyError{"", "cannot be written again"}
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

func (t *transform) change(object map[string]any) error {
	for _, path := range t.remove {
		if in, err := parent(object, path, false); err != nil {
			return err
		} else if in != nil {
			delete(in, path[len(path)-1])
		}
	}
	for _, m := range t.rename {
		from, err := parent(object, m.from, false)
		if err != nil {
			return err
		}
		name := m.from[len(m.from)-1]
		v, ok := from[name]
		if !ok {
			continue
		}
		delete(from, name)
		to, err := parent(object, m.to, true)
		if err != nil {
			return err
		}
		to[m.to[len(m.to)-1]] = v
	}
	for _, s := range t.set {
		in, err := parent(object, s.path, true)
		if err != nil {
			return err
		}
		in[s.path[len(s.path)-1]] = s.json
	}
	return nil
}

// parent is the object that holds the last name of a path: nil where there is none,
// unless it is to be made.
func parent(object map[string]any, path []string, create bool) (map[string]any, error) {
	for i, name := range path[:len(path)-1] {
		next, there := object[name]
		if !there {
			if !create {
				return nil, nil //nolint:nilnil // Nothing is there to take away.
			}
			next = map[string]any{}
			object[name] = next
		}
		if raw, ok := next.(json.RawMessage); ok { // Set by a rule before this one.
			var made map[string]any
			if json.Unmarshal(raw, &made) == nil && made != nil {
				object[name], next = made, made
			}
		}
		in, ok := next.(map[string]any)
		if !ok {
			return nil, &BodyError{strings.Join(path[:i+1], "."), notObject}
		}
		object = in
	}
	return object, nil
}

// isJSON accepts application/json and types with the suffix +json.
func isJSON(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == "application/json" || strings.HasSuffix(t, "+json"))
}
