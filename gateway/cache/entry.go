package cache

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Entry is an answer. The fields are set before it is handed to the cache, and not
// changed after that; nor are the bytes.
type Entry struct {
	// Body is the answer: wire bytes of a message, or the body of an HTTP response.
	// Whoever reads it only reads.
	Body []byte
	// Meta is what else belongs to it, such as status and headers, and MetaBytes what
	// that takes. Not to be changed either.
	Meta      any
	MetaBytes int
	// Err is the failure that is kept in the place of an answer, for the rule's
	// negative TTL.
	Err error
	// Tags are the names by which Invalidate finds it.
	Tags []string
	// TTL is shorter than the rule's, where the service says so; 0 means the rule's.
	TTL time.Duration
	// NoStore gives the entry to those who wait for it, and keeps it for nobody.
	NoStore bool
	// Pass keeps, in the place of an answer, that there is none to share: for its time
	// callers who come fetch by themselves, and wait for nobody.
	Pass bool
	// NoStale says that the entry is good for nothing once it is not fresh.
	NoStale bool

	c      *Cache
	key    string
	at     time.Time
	ttl    time.Duration // how long it is fresh
	keep   time.Duration // how long it is good for anything
	sum    [16]byte
	etag   []string
	kept   bool
	tagged []string // Tags and the route's
	dead   atomic.Bool

	forms     atomic.Pointer[[]form]
	formsMu   sync.Mutex
	formBytes int64
}

// FormKey names a rendering of an answer: by which route, and with which fields.
type FormKey struct{ Route, Fields string }

type form struct {
	key   FormKey
	value any
	bytes int64
}

// Kept says that the entry went into the cache. One that did not has neither ETag nor
// age, and takes no renderings.
func (e *Entry) Kept() bool { return e != nil && e.kept }

// Age is how long ago the answer was had.
func (e *Entry) Age() time.Duration { return max(0, e.c.o.Clock().Sub(e.at)) }

// ETag is a weak entity tag (RFC 9110, 8.8.3) of the answer as the value of a header,
// made once: equal answers have equal ones, whichever gateway gives them. The slice is
// shared, and nobody writes into it.
func (e *Entry) ETag() []string { return e.etag }

// ETagOf is the tag of the answer with only some of its fields.
func (e *Entry) ETagOf(fields string) string {
	h := sha256.New()
	h.Write(e.sum[:])
	h.Write([]byte(fields))
	return weak(h.Sum(nil))
}

// weak is an entity tag of 128 bits of a hash: nobody finds two answers for one.
func weak(sum []byte) string { return `W/"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"` }

// Form is the rendering of that name, or nil. It is not to be changed.
func (e *Entry) Form(k FormKey) any {
	forms := e.forms.Load()
	if forms == nil {
		return nil
	}
	for i := range *forms {
		if f := &(*forms)[i]; f.key == k {
			return f.value
		}
	}
	return nil
}

// AddForm keeps a rendering beside the answer, in the place of one of the same name,
// and counts its bytes as the answer's. Where there is no room for it nothing happens.
func (e *Entry) AddForm(k FormKey, value any, bytes int) {
	if !e.Kept() {
		return
	}
	e.formsMu.Lock()
	var forms []form
	if old := e.forms.Load(); old != nil {
		forms = append(forms, *old...) // Readers have the old one.
	}
	at := len(forms)
	for i := range forms {
		if forms[i].key == k {
			at = i
		}
	}
	if at == len(forms) {
		forms = append(forms, form{})
	}
	size := int64(bytes + len(k.Fields) + 64)
	total := e.formBytes + size - forms[at].bytes
	if at >= maxForms || total > formShare*e.c.o.MaxEntryBytes {
		e.formsMu.Unlock()
		return
	}
	k.Fields = strings.Clone(k.Fields) // It may be a piece of a request's memory.
	forms[at] = form{k, value, size}
	e.forms.Store(&forms)
	e.formBytes = total
	e.formsMu.Unlock()
	e.c.weighAgain(e)
}

// weight is what the entry counts against MaxBytes.
func (e *Entry) weight() int64 {
	n := int64(overhead + len(e.key) + len(e.Body) + e.MetaBytes)
	for _, t := range e.tagged {
		n += int64(2*len(t)) + 64
	}
	return n
}

// Fresh is for how long the answer may be given after it was had, unless the rule has
// become stricter since.
func (e *Entry) Fresh() time.Duration { return e.ttl }

// left is how long the entry is good for anything.
func (e *Entry) left(now time.Time) time.Duration { return e.keep - now.Sub(e.at) }

// init prepares an entry that is going to be kept.
func (e *Entry) init(r *Route, key string, now time.Time) {
	e.c, e.key, e.at, e.kept = r.c, key, now, true
	e.tagged = append(e.Tags[:len(e.Tags):len(e.Tags)], r.tag)
	rule := r.rule
	e.ttl = rule.TTL
	if e.Err != nil {
		e.ttl = rule.NegativeTTL
	}
	if e.TTL > 0 {
		e.ttl = min(e.ttl, e.TTL)
	}
	if e.Err != nil {
		e.keep = e.ttl
		return
	}
	e.NoStale = e.NoStale || e.Pass
	if e.keep = e.ttl; !e.NoStale {
		e.keep += max(rule.StaleWhileRevalidate, rule.StaleIfError)
	}
	sum := sha256.Sum256(e.Body)
	e.sum = [16]byte(sum[:16])
	e.etag = []string{weak(sum[:])}
}
