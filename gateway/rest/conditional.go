package rest

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/httpedge"
)

// Answers that upstream has kept: they have an ETag, an age and a time for which
// others may keep them (RFC 9110, RFC 9111), and are rendered and compressed once.
// What is asked for again with its tag is answered 304 before anything is rendered.

// errAnswered ends a generated handler whose request has its answer.
var errAnswered = errors.New("rest: a kept answer was given")

// keeping is what all kept answers of a binding say, worked out at the start.
type keeping struct {
	route   string // names the binding's renderings
	control []string
	apart   []string // instead, of what is not for every caller
	vary    []string
}

// newKeeping is nil where no answer is kept for GET: what a POST answers is nobody's
// to keep but ours.
func (s *Server) newKeeping(b *Binding) *keeping {
	rule := b.Method.Rule.Cache
	if rule == nil || b.Verb != http.MethodGet || b.location != nil || b.Method.Rule.SuccessCode == http.StatusNoContent ||
		b.answer == nil && b.ResponseField != nil {
		return nil
	}
	k := &keeping{route: b.Verb + " " + b.Template.String()}
	// Public takes both: a rule that lets everybody in, and a cache for everybody.
	// Scopes are checked here, and not by a cache on the way.
	public := rule.Public && b.Method.Rule.Public
	control := "private"
	if public {
		control = "public"
	}
	rest := ", max-age=" + seconds(rule.TTL)
	for _, d := range []struct {
		name string
		time time.Duration
	}{{"stale-while-revalidate", rule.StaleWhileRevalidate}, {"stale-if-error", rule.StaleIfError}} { // RFC 5861
		if d.time > 0 {
			rest += ", " + d.name + "=" + seconds(d.time)
		}
	}
	k.control, k.apart = []string{control + rest}, []string{"private" + rest}
	if b.masks != nil && b.masks.compile != nil {
		k.vary = append(k.vary, httpedge.VaryMask[0])
	}
	if s.o.Compressor != nil {
		k.vary = append(k.vary, httpedge.VaryEncoding[0])
	}
	for _, name := range b.Method.Rule.Metadata.Request {
		k.vary = append(k.vary, http.CanonicalHeaderKey(name))
	}
	if !public {
		k.vary = append(k.vary, "Authorization")
		if s.o.APIKeyHeader != "" {
			k.vary = append(k.vary, http.CanonicalHeaderKey(s.o.APIKeyHeader))
		}
	}
	return k
}

// seconds are whole ones, and never more than there are.
func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// answerKept answers with what upstream has kept, and returns errAnswered; nil is for
// an answer that is rendered as any other, any other error is the answer.
func (x *exchange) answerKept() error {
	e := x.answer.Cached
	if x.binding.keeping == nil {
		return nil
	}
	tag := e.ETag()
	if x.mask != nil {
		tag = []string{e.ETagOf(x.fields)}
	}
	if lines := x.Request.Header["If-None-Match"]; len(lines) > 0 && headers.NoneMatch(lines, tag[0]) {
		x.describe(e, tag)
		x.notModified()
		return errAnswered
	}
	f, err := x.rendered(e)
	if err != nil {
		return err
	}
	x.describe(e, tag)
	x.give(e, f)
	return errAnswered
}

// describe puts on what a kept answer says of itself. max-age is the whole time that
// it is fresh; what is gone of it, Age says (RFC 9111, 4.2).
func (x *exchange) describe(e *cache.Entry, tag []string) {
	x.answer.Message.Free() // It has been read, or need not be.
	x.answered, x.served = false, true
	k, h := x.binding.keeping, x.Header()
	h["Etag"] = tag
	if c := h["Cache-Control"]; len(c) == 1 && c[0] == httpedge.NoStore { // Else a team's check has said what holds.
		h["Cache-Control"] = k.control
		if x.answer.Apart {
			h["Cache-Control"] = k.apart
		}
	}
	if have := h["Vary"]; len(have) == 0 {
		h["Vary"] = k.vary
	} else { // Of CORS.
		h["Vary"] = append(have[:len(have):len(have)], k.vary...)
	}
	if from := x.Call.Cache; from != cache.Miss.String() && from != cache.Coalesced.String() { // RFC 9111, 5.1: not of one that was made for this request.
		x.age[0] = seconds(e.Age())
		h["Age"] = x.age[:]
	}
}

// notModified answers 304 (RFC 9110, 15.4.5). Whoever keeps the answer renews its
// headers by these: where they differ from those of a 200, they must not.
func (x *exchange) notModified() {
	if x.binding.raw {
		x.Header()["Content-Security-Policy"] = rawPolicy
	}
	x.WriteHeader(http.StatusNotModified)
}

// precondition refuses a call under a condition that does not hold, or of which nobody
// here can say whether it does (RFC 9110, 13.1). The entity tags of RPCs are weak, and
// If-Match compares strongly: so it names none of them. Whether there is something behind
// the path of a write only the service knows, which gets no headers. A write that went on
// all the same would take another's change away.
func (x *exchange) precondition() error {
	h := x.Request.Header
	reads := x.Request.Method == http.MethodGet || x.Request.Method == http.MethodHead
	match := h["If-Match"]
	switch {
	case len(match) > 0 && !(reads && len(match) == 1 && strings.Trim(match[0], " \t") == "*"):
		return preconditionRefused("If-Match")
	case len(h["If-None-Match"]) > 0 && !reads:
		return preconditionRefused("If-None-Match")
	}
	return nil
}

// rendering is an answer as it is sent, in each coding that was asked for. It is not
// changed: one with another coding takes its place.
type rendering struct {
	contentType []string
	bodies      [httpedge.Codings]encodedBody // of identity always
}

// encodedBody has no length where it is not made, and no body where it would have been
// no smaller.
type encodedBody struct {
	body   []byte
	length []string
}

func newEncodedBody(b []byte) encodedBody { return encodedBody{b, []string{strconv.Itoa(len(b))}} }

func (f *rendering) bytes() int {
	n := 512
	for i := range f.bodies {
		n += cap(f.bodies[i].body)
	}
	return n
}

// rendered returns the answer as it is sent: from beside the kept one, or made.
func (x *exchange) rendered(e *cache.Entry) (*rendering, error) {
	key := cache.FormKey{Route: x.binding.keeping.route, Fields: x.fields}
	if f, ok := e.Form(key).(*rendering); ok {
		return f, nil
	}
	f := &rendering{}
	if x.binding.answer == nil {
		var h httpbody.HttpBody
		if err := proto.Unmarshal(e.Body, &h); err != nil {
			return nil, x.unreadable(err)
		}
		f.bodies[httpedge.CodingIdentity] = newEncodedBody(h.GetData())
		if t := h.GetContentType(); t != "" {
			f.contentType = []string{t}
		}
	} else {
		b, err := x.binding.answer.AppendMasked(make([]byte, 0, 2*len(e.Body)), e.Body, x.mask)
		if err != nil {
			return nil, x.unreadable(err)
		}
		f.bodies[httpedge.CodingIdentity], f.contentType = newEncodedBody(b), jsonType
	}
	e.AddForm(key, f, f.bytes())
	return f, nil
}

var jsonType = []string{"application/json"}

// give sends a rendering in the coding that the caller likes best.
func (x *exchange) give(e *cache.Entry, f *rendering) {
	h := x.Header()
	if f.contentType != nil {
		h["Content-Type"] = f.contentType
	}
	out := &f.bodies[httpedge.CodingIdentity]
	if k, identity := x.server.o.Compressor.Choose(h, x.Request.Header["Accept-Encoding"], len(out.body)); k != httpedge.CodingIdentity {
		out = x.encoded(e, f, k, identity)
	}
	h["Content-Length"] = out.length
	x.success = x.binding.Method.Rule.SuccessCode
	if err := x.writeWhole(out.body); err != nil {
		x.server.o.Logger.Debug("answer not written", "error", err)
	}
}

// encoded returns the body in coding k, or as it is, where that may be and is no
// larger.
func (x *exchange) encoded(e *cache.Entry, f *rendering, k httpedge.Coding, identity bool) *encodedBody {
	plain, have := &f.bodies[httpedge.CodingIdentity], &f.bodies[k]
	switch {
	case len(have.body) > 0:
		x.Header()["Content-Encoding"] = httpedge.ContentEncodings[k]
		return have
	case have.length != nil && identity:
		return plain
	}
	with := *f
	b, ok := x.server.o.Compressor.Encode(x.Header(), k, identity, plain.body, nil)
	if with.bodies[k] = newEncodedBody(b); !ok {
		with.bodies[k].body = nil
	}
	e.AddForm(cache.FormKey{Route: x.binding.keeping.route, Fields: x.fields}, &with, with.bytes())
	if !ok {
		return plain
	}
	return &with.bodies[k]
}
