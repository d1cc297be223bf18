package transcode

import "slices"

// AppendRequest is AppendWire for the body of a REST call, of which a request message
// has further parts. So required fields may be missing: CheckRequest looks for them in
// the whole. Field masks may be in snake_case, and have *, as in a query. In a PATCH null
// leaves any field unset, be it a google.protobuf.Value, but in lists, maps and Anys,
// which are replaced whole.
func (p *Plan) AppendRequest(dst, data []byte, patch bool) ([]byte, error) {
	d := p.set.reader(dst, data)
	d.asRequest(patch)
	return d.end(d.whole(p), dst, data)
}

func (d *reader) asRequest(patch bool) { d.request, d.partial, d.clears = true, true, patch }

// RequestErrors are what is wrong with a body that AppendRequest refuses, at most so
// many: one that is no JSON at all has a single error.
func (p *Plan) RequestErrors(data []byte, patch bool, most int) []*Error {
	d := p.set.reader(nil, data)
	d.asRequest(patch)
	d.enough = most
	d.whole(p)
	var all []*Error
	if d.err != nil {
		all = []*Error{d.err}
	} else {
		for _, f := range d.found {
			all = append(all, f.Error)
		}
	}
	d.err = nil
	_, _ = d.end(true, nil, data)
	for _, e := range all {
		e.locate(data)
	}
	return all
}

// JSONPaths are the fields that a body names, as the paths of a google.protobuf.FieldMask,
// sorted: the mask of a PATCH that has none (AIP-134). null names a field, too, and so does
// an empty object. Lists, maps and well-known types are one path. The body must be one
// that AppendRequest has taken; for a plan that Field made, paths begin at the value.
func (p *Plan) JSONPaths(data []byte) []string {
	in := p.in
	if p.field != nil {
		in = in.fields[p.field.Index()].nests()
	}
	d := p.set.reader(nil, data)
	var paths []string
	if in != nil && in.known == knownNone && d.next() == '{' {
		paths = d.paths(in, "", nil)
	}
	_, _ = d.end(true, nil, data)
	slices.Sort(paths)
	return paths
}

// nests is the plan of the message that the field's value is, nil where that is none or
// several.
func (f *decodeField) nests() *decodePlan {
	if f.shape != shapeOne {
		return nil
	}
	return f.message
}

// paths appends those of the object that is next.
func (d *reader) paths(p *decodePlan, prefix string, paths []string) []string {
	if d.pos++; d.leave('}') {
		if prefix != "" {
			paths = append(paths, prefix[:len(prefix)-1])
		}
		return paths
	}
	for again := true; again; {
		if d.next() != '"' {
			return paths
		}
		f, ok := d.named(p, false)
		if !ok || !d.colon() {
			return paths
		}
		if in := f.nests(); in != nil && in.known == knownNone && d.next() == '{' {
			paths = d.paths(in, prefix+f.name+".", paths)
		} else {
			paths = append(paths, prefix+f.name)
			d.skip()
		}
		again, _ = d.more('}')
	}
	return paths
}
