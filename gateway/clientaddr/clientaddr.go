// Package clientaddr finds out which address a request comes from when proxies
// stand before the gateway. Both edges ask it; it knows neither HTTP nor gRPC.
// The PROXY protocol is not its business: there the listener already says the
// right peer.
package clientaddr

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// Header names the request header in which trusted proxies put the address of
// whom they serve.
type Header int

// The headers. XForwardedFor is the default.
const (
	XForwardedFor Header = iota // the de facto standard: addresses with commas between them
	Forwarded                   // RFC 7239
	None                        // no header: the peer is the client
)

// Bounds of what is looked at, from the right: what stands there was written by
// the proxies that are trusted, the rest by anyone.
const (
	maxEntries = 32
	maxBytes   = 4096
)

// Options of a Resolver.
type Options struct {
	// Trusted are the networks of the proxies whose word is taken.
	Trusted []netip.Prefix
	// Header is where they put it.
	Header Header
	// Untrusted is called, when not nil, each time a peer that is not trusted sends
	// the header: a caller who forges, or a proxy that the configuration forgot. It
	// runs on the goroutine of the request and must be quick (see Sparsely).
	Untrusted func()
}

// Resolver knows whose word to take. Safe for concurrent use; a nil Resolver
// trusts nobody.
type Resolver struct {
	trusted   []netip.Prefix
	header    Header
	untrusted func()
}

// New returns a Resolver. A prefix that is not valid trusts nobody.
func New(o Options) *Resolver {
	r := &Resolver{header: o.Header, untrusted: o.Untrusted}
	for _, p := range o.Trusted {
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96) // Addresses are compared unmapped.
		}
		if p.IsValid() {
			r.trusted = append(r.trusted, p.Masked())
		}
	}
	return r
}

// Client returns the address of the caller: the peer's, unless it is a trusted
// proxy. Then it is the last address in the header that is not a trusted
// proxy's, and the first hop that is known where the header ends, or cannot be
// read, before there is one. IPv4-mapped addresses are unmapped, zones dropped.
// Headers returns the values of a header, in the order they were sent. It does
// not allocate for a peer that is not trusted.
func (r *Resolver) Client(peer netip.Addr, headers func(key string) []string) netip.Addr {
	peer = plain(peer)
	if r == nil || r.header == None {
		return peer
	}
	if !r.trusts(peer) {
		if r.untrusted != nil && len(headers(r.key())) > 0 {
			r.untrusted()
		}
		return peer
	}
	return r.walk(peer, headers(r.key()))
}

// key is spelt as gRPC does; net/http, which knows the usual headers, makes no
// copy of it either.
func (r *Resolver) key() string {
	if r.header == Forwarded {
		return "forwarded"
	}
	return "x-forwarded-for"
}

func (r *Resolver) trusts(a netip.Addr) bool {
	for i := range r.trusted {
		if r.trusted[i].Contains(a) {
			return true
		}
	}
	return false
}

// walk goes through the entries from the right. Each was written by the hop
// that the one before it names, so the first hop that is not trusted ends it.
func (r *Resolver) walk(peer netip.Addr, lines []string) netip.Addr {
	last, bytes, entries := peer, maxBytes, 0
	for i := len(lines) - 1; i >= 0; i-- {
		for line, more := lines[i], true; more; {
			if entries++; entries > maxEntries {
				return last
			}
			var entry string
			var ok bool
			before := len(line)
			entry, line, more, ok = r.cut(line, bytes)
			if bytes -= before - len(line); !ok || bytes < 0 {
				return last
			}
			if entry = trim(entry); entry == "" { // Empty list elements mean nothing (RFC 9110, 5.6.1).
				continue
			}
			addr, ok := r.parse(entry)
			if !ok {
				return last
			}
			if !r.trusts(addr) {
				return addr
			}
			last = addr
		}
	}
	return last
}

// cut takes the last entry off a line, looking at no more than limit bytes; ok
// is false where none ends within them.
func (r *Resolver) cut(line string, limit int) (entry, rest string, more, ok bool) {
	from := max(0, len(line)-limit)
	var at int
	if r.header == Forwarded {
		if at, ok = lastComma(line[from:]); !ok {
			return "", "", false, false
		}
	} else {
		at = strings.LastIndexByte(line[from:], ',')
	}
	if at < 0 {
		return line, "", false, from == 0
	}
	return line[from+at+1:], line[:from+at], true, true
}

func (r *Resolver) parse(entry string) (netip.Addr, bool) {
	if r.header == Forwarded {
		var ok bool
		if entry, ok = forValue(entry); !ok {
			return netip.Addr{}, false
		}
	}
	return node(entry)
}

// node reads an address, with or without a port, an IPv6 address also in
// brackets. Names such as `unknown` and `_hidden` are no addresses.
func node(s string) (netip.Addr, bool) {
	if inner, after, found := strings.Cut(s, "]"); found && strings.HasPrefix(inner, "[") {
		a, ok := address(inner[1:])
		return a, ok && strings.Contains(inner, ":") && (after == "" || isPort(after))
	}
	if host, _, found := strings.Cut(s, ":"); found && strings.Count(s, ":") == 1 {
		if !isPort(s[len(host):]) {
			return netip.Addr{}, false
		}
		s = host
	}
	return address(s)
}

// address reads an address, whose zone may be a name and is dropped.
func address(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || strings.IndexFunc(a.Zone(), func(c rune) bool { return !isObfuscated(c) }) >= 0 {
		return netip.Addr{}, false
	}
	return plain(a), true
}

// isPort accepts a colon and a port of RFC 7239: digits, or an obfuscated name.
func isPort(s string) bool {
	if len(s) < 2 || s[0] != ':' {
		return false
	}
	if s[1] == '_' {
		return len(s) > 2 && strings.IndexFunc(s[2:], func(c rune) bool { return !isObfuscated(c) }) < 0
	}
	return len(s) <= 6 && strings.IndexFunc(s[1:], func(c rune) bool { return c < '0' || c > '9' }) < 0
}

func isObfuscated(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func trim(s string) string { return strings.Trim(s, " \t") }

// Sparsely returns a function that calls f at most once in each interval, for
// warnings about what anyone can cause as often as they like. Safe for
// concurrent use.
func Sparsely(interval time.Duration, f func()) func() {
	var next atomic.Int64 // Nanoseconds since start.
	start := time.Now()
	return func() {
		now, due := int64(time.Since(start)), next.Load()
		if now >= due && next.CompareAndSwap(due, now+int64(interval)) {
			f()
		}
	}
}
