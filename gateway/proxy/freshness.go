package proxy

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// freshness is what the header of an answer says of how long caches may use it.
type freshness struct {
	// never says that no cache but the caller's own may keep it, or that what it says
	// cannot be read.
	never bool
	// lifetime is how long it is fresh for this cache, said whether the service states
	// that; browser and browserSaid are the same for private caches, to which s-maxage
	// says nothing.
	lifetime, browser time.Duration
	said, browserSaid bool
	// age is how old it was when the request was answered; older says that it was older
	// than the request itself, because another cache or a slow clock stands before us.
	age   time.Duration
	older bool
	// noStale forbids the use of the answer once it is not fresh.
	noStale     bool
	noTransform bool
	// revalidate and onError are what the service itself allows to caches behind this
	// one (RFC 5861).
	revalidate, onError time.Duration
}

// readFreshness reads the header of an answer to a request that was sent at start and
// answered at now (RFC 9111, 4.2 and 5.2.2). In a private cache s-maxage,
// proxy-revalidate and private mean nothing. What cannot be read, or is said twice in
// different ways, means never: RFC 9111, 4.2.1 lets such answers count as stale.
func readFreshness(h http.Header, private bool, start, now time.Time) (f freshness) {
	c := readControl(h["Cache-Control"])
	f.never = c.malformed || c.has["no-store"] || c.has["no-cache"] || c.has["private"] && !private
	if len(h["Cache-Control"]) == 0 && strings.Contains(strings.ToLower(h.Get("Pragma")), "no-cache") {
		f.never = true
	}
	f.noStale = c.has["must-revalidate"] || !private && (c.has["proxy-revalidate"] || c.has["s-maxage"]) // 5.2.2.10
	f.noTransform = c.has["no-transform"]
	f.readAge(h, start, now)
	f.browser, f.browserSaid = f.seconds(&c, "max-age")
	if !f.browserSaid {
		f.browser, f.browserSaid = f.expires(h, now)
	}
	f.lifetime, f.said = f.browser, f.browserSaid
	if !private {
		if shared, said := f.seconds(&c, "s-maxage"); said {
			f.lifetime, f.said = shared, true
		}
	}
	f.revalidate, _ = f.seconds(&c, "stale-while-revalidate")
	f.onError, _ = f.seconds(&c, "stale-if-error")
	f.never = f.never || f.said && f.lifetime <= f.age
	return f
}

// seconds is the value of a directive that has one.
func (f *freshness) seconds(c *directives, name string) (d time.Duration, said bool) {
	if !c.has[name] {
		return 0, false
	}
	d, ok := deltaSeconds(c.value[name])
	f.never = f.never || !ok
	return d, true
}

// expires is the lifetime that Expires states, by the service's own clock where it says
// what time that shows (RFC 9111, 4.2.1 and 5.3).
func (f *freshness) expires(h http.Header, now time.Time) (d time.Duration, said bool) {
	lines := h["Expires"]
	if len(lines) == 0 {
		return 0, false
	}
	at, err := http.ParseTime(lines[0])
	if err != nil || slices.ContainsFunc(lines[1:], func(s string) bool { return s != lines[0] }) {
		return 0, true
	}
	return min(max(0, at.Sub(dateOf(h, now))), maxDelta*time.Second), true
}

func dateOf(h http.Header, otherwise time.Time) time.Time {
	if t, err := http.ParseTime(h.Get("Date")); err == nil && len(h["Date"]) == 1 {
		return t
	}
	return otherwise
}

// readAge reckons the corrected initial age (RFC 9111, 4.2.3). Date is compared with the
// second in which the request was sent, so that an answer that was made for it has no
// age but the time that it took.
func (f *freshness) readAge(h http.Header, start, now time.Time) {
	var before time.Duration
	if lines := h["Age"]; len(lines) > 0 { // 5.1: the first counts, and one that is no number does not.
		first, _, _ := strings.Cut(lines[0], ",")
		before, _ = deltaSeconds(strings.Trim(first, " \t"))
	}
	second := start.Truncate(time.Second)
	before = min(max(before, second.Sub(dateOf(h, second))), maxDelta*time.Second)
	f.older, f.age = before > 0, before+max(0, now.Sub(start))
}

// maxDelta is what a number of seconds beyond 31 bits counts as (RFC 9111, 1.2.2).
const maxDelta = 1 << 31

// deltaSeconds reads a number of seconds.
func deltaSeconds(s string) (_ time.Duration, ok bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > maxDelta { // It can only be too large.
		n = maxDelta
	}
	return time.Duration(n) * time.Second, true
}

// directives are those of Cache-Control, in lower case.
type directives struct {
	has       map[string]bool
	value     map[string]string
	malformed bool
}

// readControl reads the lines of Cache-Control (RFC 9111, 5.2): a list of tokens, each
// with a token or a quoted string behind `=`, in which a comma ends nothing.
func readControl(lines []string) directives {
	c := directives{has: map[string]bool{}, value: map[string]string{}}
	for _, line := range lines {
		for rest := line; rest != ""; {
			var member string
			var ok bool
			if member, rest, ok = cutMember(rest); !ok {
				c.malformed = true
			}
			if member = strings.Trim(member, " \t"); member == "" {
				continue
			}
			name, value, _ := strings.Cut(member, "=")
			name, value = strings.ToLower(strings.Trim(name, " \t")), unquote(strings.Trim(value, " \t"))
			if c.has[name] && c.value[name] != value {
				c.malformed = c.malformed || dated[name]
				continue
			}
			c.has[name], c.value[name] = true, value
		}
	}
	return c
}

// dated are the directives whose value decides how long an answer is used.
var dated = map[string]bool{"max-age": true, "s-maxage": true, "stale-while-revalidate": true, "stale-if-error": true}

// cutMember cuts the first member off a list. It is not ok where a quoted string does
// not end.
func cutMember(s string) (member, rest string, ok bool) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == ',' && !quoted:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", !quoted
}

// unquote takes the quotes off a quoted string (RFC 9110, 5.6.4). No directive that is
// read here has a use for a backslash, so a value that has one is left as it is.
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// control makes the Cache-Control of a kept answer (RFC 9111, 5.2.2; RFC 5861). max-age
// is the whole time that it is fresh, and Age what is gone of that: by both, a cache
// behind this one ends no later than this one does, and no later than the service said.
// To use it stale the service itself must have allowed, where it says anything of time.
func (k *keeper) control(f *freshness) string {
	whole := k.rule.TTL
	if f.older { // Age is on every answer then, and takes that away again.
		whole += f.age
	}
	browser := whole
	switch {
	case f.browserSaid:
		browser = min(browser, f.browser)
	case f.said:
		browser = min(browser, f.lifetime)
	}
	out := "private"
	if k.public {
		out = "public"
	}
	out += ", max-age=" + seconds(browser)
	if shared := min(whole, f.lifetime); k.public && f.said && shared != browser {
		out += ", s-maxage=" + seconds(shared)
	}
	if f.noTransform {
		out += ", no-transform"
	}
	if f.noStale {
		return out + ", must-revalidate"
	}
	revalidate, onError := k.rule.StaleWhileRevalidate, k.rule.StaleIfError
	if f.said {
		revalidate, onError = min(revalidate, f.revalidate), min(onError, f.onError)
	}
	if revalidate > 0 {
		out += ", stale-while-revalidate=" + seconds(revalidate)
	}
	if onError > 0 {
		out += ", stale-if-error=" + seconds(onError)
	}
	return out
}

// ttl is how long this cache may use the answer from now on; 0 means that the service
// says nothing, so that the rule decides.
func (f *freshness) ttl() time.Duration {
	if !f.said {
		return 0
	}
	return f.lifetime - f.age
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }
