package request

import "github.com/sluice-gateway/sluice/gateway/transcode"

// part is a field, or a message on the way to one, that body, path or query give.
type part struct {
	parent int32 // the message that holds it, in given.parts; top is the request
	from   source
	whole  bool // given itself, not only a part of it
	absent bool // the body's field, in a request without a body
	field  transcode.Field
	entry  string // the key of an entry of a map
	by     string // the name that first gave it, as it was written
}

const top = -1

type source uint8

const (
	fromBody source = iota
	fromPath
	fromQuery
)

func (s source) String() string {
	if s == fromBody {
		return "body"
	}
	return "path"
}

// given follows what a request gives, so that nothing is given twice. Requests name few
// fields, so each is looked for among all.
type given struct{ parts []part }

// add notes a field by its path; by is the name that it is given by. Of an entry of a map,
// entry is the key. What it returns says which of what is given cannot be, and why; nothing
// where all can.
func (g *given) add(path []transcode.Field, entry, by string, from source) (bad FieldError) {
	parent := int32(top)
	for i, f := range path {
		last, key := i == len(path)-1, ""
		if last {
			key = entry
		}
		at, rival := g.find(parent, f, key)
		switch {
		case rival != "":
			return FieldError{by, "excludes " + rival + ", which is given, too: they are of one oneof"}
		case at < 0:
			at = len(g.parts)
			g.parts = append(g.parts, part{parent: parent, from: from, field: f, entry: key, by: by, whole: last})
		case last:
			if reason := g.parts[at].again(by); reason != "" {
				return FieldError{by, reason}
			}
		case g.parts[at].whole && from == fromQuery:
			if p := &g.parts[at]; p.from != fromQuery {
				return FieldError{by, "is taken from the " + p.from.String()}
			}
			return FieldError{g.parts[at].by, "is given beside a part of it, " + by}
		}
		parent = int32(at)
	}
	return FieldError{}
}

// find returns where a field is among those of a message, -1 if nowhere, and the name of
// another member of its oneof.
func (g *given) find(parent int32, f transcode.Field, entry string) (at int, rival string) {
	at = -1
	for i := range g.parts {
		p := &g.parts[i]
		if p.parent != parent {
			continue
		}
		if p.field == f {
			if p.entry == entry {
				at = i
			}
		} else if f.Oneof() != 0 && f.Oneof() == p.field.Oneof() && !p.absent {
			return -1, p.by
		}
	}
	return at, ""
}

// again says what is wrong with giving a field once more; "" is that it is a list.
func (p *part) again(by string) string {
	switch {
	case p.from != fromQuery:
		return "is taken from the " + p.from.String()
	case !p.whole:
		return "is given beside a part of it, " + p.by
	case p.by != by:
		return "names the same field as " + p.by
	case p.field.IsList():
		return ""
	}
	return "is given more than once"
}
