package proxy

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/headers"
)

// answer is what belongs to a kept body. It does not change.
type answer struct {
	code     int
	header   http.Header
	etag     []string // the service's; nil means that the cache's stands for it
	modified time.Time
	age      time.Duration // that it had when it came
	older    bool          // as freshness says: every caller is told its age then
	noStale  bool
	control  []string
}

// perHop are headers of one connection (RFC 9110, 7.6.1), and those that the gateway
// says of kept answers.
var perHop = names("Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Age", "Cache-Control", "Content-Length", "Date", "Expires", "Pragma")

// answerOf makes what belongs to an answer, by its status and header. nil means that it
// may not be given to others.
func (k *keeper) answerOf(res *http.Response) *answer {
	switch res.StatusCode {
	case http.StatusOK, http.StatusNoContent, http.StatusMovedPermanently, http.StatusPermanentRedirect, http.StatusNotFound, http.StatusGone:
	default:
		return nil
	}
	h := res.Header
	if len(h["Set-Cookie"]) > 0 || len(res.Trailer) > 0 || len(h["Trailer"]) > 0 || len(h["Content-Range"]) > 0 || !k.varies(h["Vary"]) ||
		strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "text/event-stream") {
		return nil
	}
	a := &answer{code: res.StatusCode, header: make(http.Header, len(h)+2)}
	ofHop := listed(h["Connection"]) // RFC 9111, 3.1
	for name, values := range h {
		if !perHop[name] && !gatewaysOwn(name) && name != "Vary" && !slices.Contains(ofHop, name) {
			a.header[name] = slices.Clip(values)
		}
	}
	vary := slices.Concat(k.says, listed(h["Vary"]))
	if len(h["Content-Encoding"]) > 0 {
		vary = append(vary, "Accept-Encoding")
	}
	slices.Sort(vary)
	if vary = slices.Compact(vary); len(vary) > 0 {
		a.header["Vary"] = []string{strings.Join(vary, ", ")}
	}
	return a
}

// times notes how old the answer is, and what others are told of how long it is fresh.
func (a *answer) times(k *keeper, f *freshness) {
	a.age, a.older, a.noStale = f.age, f.older, f.noStale
	a.control = []string{k.control(f)}
}

// varies says whether the key holds what the service says that it chose by. Cookie is
// in it as far as requests with one are kept; of credentials the service gets none, and
// of Origin nothing.
func (k *keeper) varies(lines []string) bool {
	for _, name := range listed(lines) {
		switch name {
		case "Accept-Encoding", "Cookie", "Authorization", "Origin":
		default:
			if !slices.Contains(k.vary, name) {
				return false
			}
		}
	}
	return true
}

// listed are the members of a list of names, in their canonical form.
func listed(lines []string) (out []string) {
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.Trim(name, " \t"); name != "" {
				out = append(out, http.CanonicalHeaderKey(name))
			}
		}
	}
	return out
}

// finish reads what the rules of JSON answers may have changed.
func (a *answer) finish(h http.Header, body []byte) {
	if a.header["Etag"] = slices.Clip(h["Etag"]); len(h["Etag"]) == 1 && entityTag(h["Etag"][0]) {
		a.etag = a.header["Etag"]
	} else {
		delete(a.header, "Etag")
	}
	for _, name := range []string{"Digest", "Content-Digest", "Repr-Digest", "Content-Md5", "Accept-Ranges"} {
		if h[name] == nil {
			delete(a.header, name)
		}
	}
	delete(a.header, "Accept-Ranges") // Parts are asked of the service.
	if a.code != http.StatusNoContent {
		a.header["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	if t, err := http.ParseTime(h.Get("Last-Modified")); err == nil {
		a.modified = t
	}
}

// entityTag says whether a value is one (RFC 9110, 8.8.3).
func entityTag(s string) bool { return headers.NoneMatch([]string{s}, s) && s != "*" }

// bytes is about what the answer takes beside its body.
func (a *answer) bytes() int {
	n := 512
	for name, values := range a.header {
		n += len(name) + 64
		for _, v := range values {
			n += len(v) + 16
		}
	}
	return n
}

// give answers with what is kept, or with what another has just fetched.
func (q *Request) give(w http.ResponseWriter, e *cache.Entry) error {
	a, ok := e.Meta.(*answer)
	if !ok {
		return badResponse()
	}
	h := w.Header()
	header := a.header
	if q.route.response != nil { // What it says may be this request's.
		header = header.Clone()
		q.route.response.Apply(header, q.values())
	}
	tag := a.etag
	if e.Kept() && e.Err == nil {
		if tag == nil && a.code == http.StatusOK {
			tag = e.ETag()
		}
		if c := h["Cache-Control"]; len(c) == 0 || len(c) == 1 && c[0] == "no-store" { // Else a team's check has said what holds.
			h["Cache-Control"] = a.control
		}
	}
	if tag != nil {
		h["Etag"] = tag
	}
	fetched := q.call.Cache == cache.Miss.String() || q.call.Cache == cache.Coalesced.String()
	if e.Kept() && (!fetched || a.older) { // RFC 9111, 5.1: not of one that was made for this request.
		h["Age"] = []string{seconds(e.Age() + a.age)}
	}
	q.status = a.code
	out := writer{ResponseWriter: w, header: header}
	if a.code == http.StatusOK && a.unchanged(q.in.Header, tag) {
		q.status = http.StatusNotModified
		out.header = make(http.Header, len(header))
		for name, values := range header {
			if !strings.HasPrefix(name, "Content-") || name == "Content-Location" || name == "Content-Security-Policy" {
				out.header[name] = values
			}
		}
	}
	out.WriteHeader(q.status)
	if q.status == http.StatusNotModified || q.in.Method == http.MethodHead || len(e.Body) == 0 {
		return nil
	}
	if _, err := w.Write(e.Body); err != nil {
		q.p.o.Logger.Debug("answer not written", "error", err)
	}
	return nil
}

// unchanged says whether the caller has the answer already (RFC 9110, 13.2.2).
func (a *answer) unchanged(h http.Header, tag []string) bool {
	if lines := h["If-None-Match"]; len(lines) > 0 {
		return len(tag) > 0 && headers.NoneMatch(lines, tag[0])
	}
	if since := h["If-Modified-Since"]; len(since) == 1 && !a.modified.IsZero() {
		t, err := http.ParseTime(since[0])
		return err == nil && !a.modified.After(t)
	}
	return false
}
