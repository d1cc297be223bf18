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
	noStale  bool
	control  []string
}

// perHop are headers of one connection (RFC 9110, 7.6.1), and those that the gateway
// says of kept answers.
var perHop = names("Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Age", "Cache-Control", "Content-Length", "Date", "Expires", "Pragma")

// answerOf says whether an answer may be given to others, by its status and header,
// and for how long the service says so (0: it says nothing). nil means that it may not.
func (k *keeper) answerOf(res *http.Response, shared bool) (*answer, time.Duration) {
	switch res.StatusCode {
	case http.StatusOK, http.StatusNoContent, http.StatusMovedPermanently, http.StatusPermanentRedirect, http.StatusNotFound, http.StatusGone:
	default:
		return nil, 0
	}
	h := res.Header
	if len(h["Set-Cookie"]) > 0 || len(res.Trailer) > 0 || len(h["Trailer"]) > 0 || len(h["Content-Range"]) > 0 || !k.varies(h["Vary"]) ||
		strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "text/event-stream") {
		return nil, 0
	}
	f := readFreshness(h, !shared, time.Now())
	if f.never {
		return nil, 0
	}
	a := &answer{code: res.StatusCode, header: make(http.Header, len(h)+2), age: f.age, noStale: f.noStale}
	ttl := k.rule.TTL
	if f.said {
		ttl = min(ttl, f.left)
	}
	a.control = []string{k.control(ttl+f.age, f.noStale)}
	for name, values := range h {
		if !perHop[name] && !gatewaysOwn(name) && name != "Vary" {
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
	if f.said {
		return a, f.left
	}
	return a, 0
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

// control is the Cache-Control of a kept answer, as on routes of RPCs. max-age is the
// whole time; what is gone of it, Age says (RFC 9111, 4.2).
func (k *keeper) control(fresh time.Duration, noStale bool) string {
	out := "private"
	if k.public {
		out = "public"
	}
	out += ", max-age=" + seconds(fresh)
	if noStale {
		return out + ", must-revalidate"
	}
	if d := k.rule.StaleWhileRevalidate; d > 0 { // RFC 5861
		out += ", stale-while-revalidate=" + seconds(d)
	}
	if d := k.rule.StaleIfError; d > 0 {
		out += ", stale-if-error=" + seconds(d)
	}
	return out
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// freshness is what an answer says of how long it may be kept.
type freshness struct {
	never   bool // no-store and the like
	said    bool
	left    time.Duration // of the time that it says
	age     time.Duration
	noStale bool
}

// readFreshness reads an answer's header (RFC 9111, 4.2.1 and 5.2.2). What cannot be
// read means never. Of a cache for everybody, s-maxage is what counts.
func readFreshness(h http.Header, private bool, now time.Time) (f freshness) {
	if v := h["Age"]; len(v) > 0 {
		f.age, f.never = deltaSeconds(v[0])
	}
	most, shared := time.Duration(-1), time.Duration(-1)
	lower := func(to *time.Duration, value string) {
		d, bad := deltaSeconds(value)
		if f.never = f.never || bad; *to < 0 || d < *to {
			*to = d
		}
	}
	control := h["Cache-Control"]
	for _, line := range control {
		for part := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.Trim(part, " \t"), "=")
			switch strings.ToLower(strings.Trim(name, " \t")) {
			case "no-store", "no-cache":
				f.never = true
			case "private":
				f.never = f.never || !private
			case "must-revalidate":
				f.noStale = true
			case "proxy-revalidate":
				f.noStale = f.noStale || !private
			case "max-age":
				lower(&most, value)
			case "s-maxage":
				if !private {
					lower(&shared, value)
				}
			}
		}
	}
	if shared >= 0 {
		most = shared
	}
	if most < 0 && len(h["Expires"]) > 0 {
		t, err := http.ParseTime(h.Get("Expires"))
		if err != nil {
			f.never = true
			return f
		}
		from := now
		if d, err := http.ParseTime(h.Get("Date")); err == nil { // The service's clock, not ours.
			from = d
		}
		most = max(0, t.Sub(from))
	}
	if len(control) == 0 && strings.Contains(strings.ToLower(h.Get("Pragma")), "no-cache") {
		f.never = true
	}
	if most >= 0 {
		f.said, f.left = true, most-f.age
		f.never = f.never || f.left <= 0
	}
	return f
}

// maxDelta is more than any rule's time.
const maxDelta = 10 * 365 * 24 * 3600

func deltaSeconds(s string) (_ time.Duration, bad bool) {
	n, err := strconv.ParseUint(strings.Trim(s, ` "`), 10, 31)
	if err != nil {
		return 0, true
	}
	return time.Duration(min(n, maxDelta)) * time.Second, false
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
	if e.Kept() && (!fetched || a.age > 0) {
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
