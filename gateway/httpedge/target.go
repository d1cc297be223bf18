package httpedge

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/sluice-gateway/sluice/gateway/route"
)

// asterisk is the target of `OPTIONS *`, which asks about the server (RFC 9110,
// 9.3.7). net/http answers it by itself unless it is told not to.
const asterisk = "*"

// inspect looks at a request's frame, before anything of it is used: how much
// there is, where it says it goes. It returns the one path that routing and
// policy read, or asterisk.
func (x *Exchange) inspect() (string, error) {
	r, o := x.Request, &x.server.o
	if headerLines(r.Header) > o.MaxHeaders {
		return "", Refuse("header_count", tooManyHeaders(o.MaxHeaders))
	}
	if !oneHost(r) {
		return "", Refuse("host", badHost())
	}
	if name := padded(r); name != "" {
		return "", Refuse("header", paddedHeader(name))
	}
	if targetBytes(r) > o.MaxURLBytes {
		return "", Refuse("url_bytes", urlTooLong(o.MaxURLBytes))
	}
	if !isToken(r.Method) { // HTTP/2 lets a space through here, too.
		return "", Refuse("target", badMethod())
	}
	sent, ok := sentPath(r)
	if !ok {
		return "", Refuse("target", badTarget())
	}
	if hasSpace(sent) || hasSpace(r.URL.RawQuery) {
		return "", Refuse("target", spaceInTarget())
	}
	if sent == asterisk {
		return sent, nil
	}
	path, err := route.Normalize(sent)
	if err != nil {
		return "", Refuse("path", badPath(err))
	}
	if q := r.URL.RawQuery; q != "" && strings.Count(q, "&")+1 > o.MaxQueryParameters {
		return "", Refuse("query_parameters", tooManyParameters(o.MaxQueryParameters))
	}
	// Who sends the path on finds it here byte for byte. net/http leaves RawPath empty where
	// it believes that it could write the path again.
	r.URL.Path, r.URL.RawPath = path, sent
	return path, nil
}

// hasSpace says whether a part of a target could end a request line: HTTP/2 lets a space
// through, and services are spoken to in HTTP/1.1.
func hasSpace(part string) bool {
	for i := range len(part) {
		if c := part[i]; c <= ' ' || c == 0x7f {
			return true
		}
	}
	return false
}

func headerLines(h http.Header) int {
	n := 0
	for _, vs := range h {
		n += len(vs)
	}
	return n
}

// padded names a header whose value begins or ends with a space, which is malformed in
// HTTP/2 (RFC 9113, 8.2.1) and which net/http lets through. HTTP/1 takes the spaces off,
// so a service would read another value than the rule that was compared with this one.
func padded(r *http.Request) string {
	if r.ProtoMajor < 2 {
		return ""
	}
	for name, lines := range r.Header {
		for _, v := range lines {
			if v != "" && (isSpace(v[0]) || isSpace(v[len(v)-1])) {
				return name
			}
		}
	}
	return ""
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// oneHost refuses a Host that is none, and an HTTP/2 request whose host field
// names another than its :authority (RFC 9113, 8.3.1). Plain HTTP routes go by it, and
// it is logged: it must be the same to all readers.
func oneHost(r *http.Request) bool {
	if vs := r.Header["Host"]; len(vs) > 1 || (len(vs) == 1 && vs[0] != r.Host) {
		return false
	}
	if len(r.Host) > maxHost {
		return false
	}
	for i := range len(r.Host) {
		c := r.Host[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("-._~:[]", c) < 0 {
			return false
		}
	}
	return true
}

// maxHost is the longest name of a host with brackets, a colon and a port.
const maxHost = 255 + 8

func targetBytes(r *http.Request) int {
	if r.RequestURI != "" {
		return len(r.RequestURI)
	}
	return len(r.URL.RequestURI()) // Made by a program, not read by a server.
}

// sentPath returns the path exactly as it was sent. URL.EscapedPath does not:
// where a path has a byte that ought to be escaped, it escapes the decoded path
// anew, and an encoded slash comes out as a slash. Ok is false for a target that
// is not the path of a resource here: CONNECT's host, a scheme that is not
// HTTP, user information, a fragment. The authority of an absolute-form target
// means nothing (RFC 9112, 3.2.2: it must be taken); HTTP/2 has no such form
// (RFC 9113, 8.3.1).
func sentPath(r *http.Request) (path string, ok bool) {
	u := r.URL
	switch {
	case u.Opaque != "" || u.User != nil || strings.IndexByte(r.RequestURI, '#') >= 0:
		return "", false
	case u.Scheme != "" && (r.ProtoMajor > 1 || (u.Scheme != "http" && u.Scheme != "https")):
		return "", false
	case u.Path == "*" || (u.Path == "" && u.Scheme != "" && r.Method == http.MethodOptions):
		return asterisk, r.Method == http.MethodOptions
	case u.Path == "":
		return "/", u.Scheme != "" && r.Method != http.MethodConnect
	case u.RawPath == "":
		return u.EscapedPath(), true
	}
	// A middleware may have set Path alone.
	if decoded, err := url.PathUnescape(u.RawPath); err != nil || decoded != u.Path {
		return u.EscapedPath(), true
	}
	return u.RawPath, true
}

// dropHopByHop takes out the fields that Connection names: they were meant for
// whoever talks to us directly, and that is us (RFC 9110, 7.6.1). The caller's
// address has been found before, so that nobody can make a proxy's word vanish.
func dropHopByHop(h http.Header) {
	lines, ok := h["Connection"]
	if !ok {
		return
	}
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.Trim(name, " \t"); name != "" {
				h.Del(name)
			}
		}
	}
	delete(h, "Connection")
}
