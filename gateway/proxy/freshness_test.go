package proxy

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

const (
	httpTime = "Mon, 02 Mar 2026 12:00:00 GMT"
	minutes  = time.Minute
	never    = time.Duration(-1)
)

// header makes a header of lines `Name: value`.
func header(t *testing.T, lines string) http.Header {
	t.Helper()
	h := http.Header{}
	for line := range strings.SplitSeq(lines, "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			t.Fatalf("%q is no header line", line)
		}
		h.Add(name, value)
	}
	return h
}

// TestFreshness is RFC 9111, 4.2 and 5 as a table: what this cache makes of an answer's
// header, and what it tells the next one. The rule gives ten minutes, a minute of
// stale-while-revalidate and two of stale-if-error. The request was sent at 12:00:00 by
// our clock and answered took later.
func TestFreshness(t *testing.T) {
	const rules = ", stale-while-revalidate=60, stale-if-error=120"
	for name, tc := range map[string]struct {
		lines   string
		took    time.Duration
		shared  bool          // the answer is for everybody
		fresh   time.Duration // from now on; never: it is not kept
		age     time.Duration
		noStale bool
		control string // behind private or public
	}{
		// The rule's time, where the service states none: no heuristics (4.2.2).
		"nothing said":                    {"", 0, false, 10 * minutes, 0, false, "max-age=600" + rules},
		"Last-Modified alone":             {"Last-Modified: Mon, 02 Mar 2020 12:00:00 GMT", 0, false, 10 * minutes, 0, false, "max-age=600" + rules},
		"an answer that took its time":    {"", 3 * time.Second, false, 10 * minutes, 3 * time.Second, false, "max-age=600" + rules},
		"it is old, and states no time":   {"Age: 30", 0, false, 10 * minutes, 30 * time.Second, false, "max-age=630" + rules},
		"Date is old, and it states none": {"Date: Mon, 02 Mar 2026 11:59:30 GMT", 0, false, 10 * minutes, 30 * time.Second, false, "max-age=630" + rules},

		// Which one counts (4.2.1).
		"max-age":                         {"Cache-Control: max-age=60", 0, false, minutes, 0, false, "max-age=60"},
		"max-age before Expires":          {"Cache-Control: max-age=60\nExpires: Mon, 02 Mar 2026 12:05:00 GMT\nDate: " + httpTime, 0, false, minutes, 0, false, "max-age=60"},
		"Expires, by the service's clock": {"Expires: Mon, 02 Mar 2026 12:05:00 GMT\nDate: Mon, 02 Mar 2026 12:04:00 GMT", 0, false, minutes, 0, false, "max-age=60"},
		"Expires without Date":            {"Expires: Mon, 02 Mar 2026 12:05:00 GMT", 0, false, 5 * minutes, 0, false, "max-age=300"},
		"Expires, and Date is no date":    {"Expires: Mon, 02 Mar 2026 12:05:00 GMT\nDate: today", 0, false, 5 * minutes, 0, false, "max-age=300"},
		"s-maxage before max-age":         {"Cache-Control: max-age=30, s-maxage=90", 0, true, 90 * time.Second, 0, true, "max-age=30, s-maxage=90, must-revalidate"},
		"s-maxage before Expires":         {"Cache-Control: s-maxage=90\nExpires: 0", 0, true, 90 * time.Second, 0, true, "max-age=0, s-maxage=90, must-revalidate"},
		"s-maxage alone":                  {"Cache-Control: s-maxage=90", 0, true, 90 * time.Second, 0, true, "max-age=90, must-revalidate"},
		"s-maxage is not for one's own":   {"Cache-Control: max-age=30, s-maxage=90", 0, false, 30 * time.Second, 0, false, "max-age=30"},
		"more than the rule":              {"Cache-Control: max-age=31536000", 0, false, 10 * minutes, 0, false, "max-age=600"},
		"more than the rule, for others":  {"Cache-Control: s-maxage=31536000, max-age=5", 0, true, 10 * minutes, 0, true, "max-age=5, s-maxage=600, must-revalidate"},

		// Numbers (1.2.2), and what is none: stale.
		"31 bits":               {"Cache-Control: max-age=2147483648", 0, false, 10 * minutes, 0, false, "max-age=600"},
		"beyond 31 bits":        {"Cache-Control: max-age=4294967296", 0, false, 10 * minutes, 0, false, "max-age=600"},
		"beyond 64 bits":        {"Cache-Control: max-age=99999999999999999999999999", 0, false, 10 * minutes, 0, false, "max-age=600"},
		"quoted":                {`Cache-Control: max-age="60"`, 0, false, minutes, 0, false, "max-age=60"},
		"upper case":            {"Cache-Control: MAX-AGE=60, Must-Revalidate", 0, false, minutes, 0, true, "max-age=60, must-revalidate"},
		"zero":                  {"Cache-Control: max-age=0", 0, false, never, 0, false, ""},
		"negative":              {"Cache-Control: max-age=-1", 0, false, never, 0, false, ""},
		"a fraction":            {"Cache-Control: max-age=1.5", 0, false, never, 0, false, ""},
		"no number":             {"Cache-Control: max-age=ten", 0, false, never, 0, false, ""},
		"half quoted":           {`Cache-Control: max-age="60`, 0, false, never, 0, false, ""},
		"without a value":       {"Cache-Control: max-age", 0, false, never, 0, false, ""},
		"Expires is past":       {"Expires: Mon, 02 Mar 2026 11:00:00 GMT", 0, false, never, 0, false, ""},
		"Expires is Date":       {"Expires: " + httpTime + "\nDate: " + httpTime, 0, false, never, 0, false, ""},
		"Expires is no date":    {"Expires: 0", 0, false, never, 0, false, ""},
		"Expires in RFC 850":    {"Expires: Monday, 02-Mar-26 12:05:00 GMT", 0, false, 5 * minutes, 0, false, "max-age=300"},
		"Expires far away":      {"Expires: Fri, 31 Dec 9999 23:59:59 GMT", 0, false, 10 * minutes, 0, false, "max-age=600"},
		"twice the same":        {"Cache-Control: max-age=60\nCache-Control: max-age=60", 0, false, minutes, 0, false, "max-age=60"},
		"twice, and differs":    {"Cache-Control: max-age=60, max-age=5", 0, false, never, 0, false, ""},
		"Expires twice":         {"Expires: Mon, 02 Mar 2026 12:05:00 GMT\nExpires: Mon, 02 Mar 2026 12:06:00 GMT", 0, false, never, 0, false, ""},
		"in another's quotes":   {`Cache-Control: ext="a, max-age=9999, b", max-age=60`, 0, false, minutes, 0, false, "max-age=60"},
		"behind a quoted quote": {`Cache-Control: ext="\", no-store, \"", max-age=60`, 0, false, minutes, 0, false, "max-age=60"},
		"empty members":         {"Cache-Control: ,, max-age=60 ,", 0, false, minutes, 0, false, "max-age=60"},

		// Age and Date (4.2.3, 5.1).
		"Age is gone of it":                 {"Cache-Control: max-age=60\nAge: 20", 0, false, 40 * time.Second, 20 * time.Second, false, "max-age=60"},
		"all of it is gone":                 {"Cache-Control: max-age=60\nAge: 60", 0, false, never, 0, false, ""},
		"Age beyond 31 bits":                {"Cache-Control: max-age=2147483648\nAge: 99999999999", 0, false, never, 0, false, ""},
		"the first Age counts":              {"Cache-Control: max-age=60\nAge: 20, 50\nAge: 55", 0, false, 40 * time.Second, 20 * time.Second, false, "max-age=60"},
		"an Age that is none":               {"Cache-Control: max-age=60\nAge: -5", 0, false, minutes, 0, false, "max-age=60"},
		"the way took time":                 {"Cache-Control: max-age=60\nAge: 20", 5 * time.Second, false, 35 * time.Second, 25 * time.Second, false, "max-age=60"},
		"the way took all its time":         {"Cache-Control: max-age=5", 6 * time.Second, false, never, 0, false, ""},
		"Date says that it is old":          {"Cache-Control: max-age=60\nDate: Mon, 02 Mar 2026 11:59:20 GMT", 0, false, 20 * time.Second, 40 * time.Second, false, "max-age=60"},
		"Age and Date: the older":           {"Cache-Control: max-age=60\nAge: 50\nDate: Mon, 02 Mar 2026 11:59:20 GMT", 0, false, 10 * time.Second, 50 * time.Second, false, "max-age=60"},
		"Date in the future":                {"Cache-Control: max-age=60\nDate: Mon, 02 Mar 2026 12:30:00 GMT", 0, false, minutes, 0, false, "max-age=60"},
		"Date of the time it took":          {"Cache-Control: max-age=60\nDate: Mon, 02 Mar 2026 12:00:01 GMT", 2 * time.Second, false, 58 * time.Second, 2 * time.Second, false, "max-age=60"},
		"Date of long ago":                  {"Cache-Control: max-age=60\nDate: Mon, 01 Jan 0001 00:00:00 GMT", 0, false, never, 0, false, ""},
		"no time stated, older than itself": {"Age: 99999999999", 0, false, 10 * minutes, maxDelta * time.Second, false, "max-age=2147484248" + rules},

		// Directives (5.2.2, RFC 5861).
		"no-store":                        {"Cache-Control: no-store, max-age=60", 0, false, never, 0, false, ""},
		"no-store is not understood away": {"Cache-Control: must-understand, no-store, max-age=60", 0, false, never, 0, false, ""},
		"no-cache":                        {"Cache-Control: no-cache, max-age=60", 0, false, never, 0, false, ""},
		"no-cache of a field":             {`Cache-Control: no-cache="x-a, x-b", max-age=60`, 0, false, never, 0, false, ""},
		"private, for one":                {"Cache-Control: private, max-age=60", 0, false, minutes, 0, false, "max-age=60"},
		"private, for all":                {"Cache-Control: private, max-age=60", 0, true, never, 0, false, ""},
		"private of a field, for all":     {`Cache-Control: private="x-user", max-age=60`, 0, true, never, 0, false, ""},
		"public":                          {"Cache-Control: public, max-age=60", 0, true, minutes, 0, false, "max-age=60"},
		"must-revalidate":                 {"Cache-Control: must-revalidate", 0, false, 10 * minutes, 0, true, "max-age=600, must-revalidate"},
		"proxy-revalidate, for all":       {"Cache-Control: proxy-revalidate, max-age=60", 0, true, minutes, 0, true, "max-age=60, must-revalidate"},
		"proxy-revalidate, for one":       {"Cache-Control: proxy-revalidate, max-age=60", 0, false, minutes, 0, false, "max-age=60"},
		"no-transform":                    {"Cache-Control: no-transform, max-age=60", 0, false, minutes, 0, false, "max-age=60, no-transform"},
		"unknown ones":                    {"Cache-Control: immutable, community=\"UCI\", max-age=60", 0, false, minutes, 0, false, "max-age=60"},
		"stale ones, as far as the rule":  {"Cache-Control: max-age=60, stale-while-revalidate=3600, stale-if-error=30", 0, false, minutes, 0, false, "max-age=60, stale-while-revalidate=60, stale-if-error=30"},
		"stale ones that are no numbers":  {"Cache-Control: max-age=60, stale-if-error=x", 0, false, never, 0, false, ""},
		"Pragma":                          {"Pragma: no-cache", 0, false, never, 0, false, ""},
		"Pragma beside Cache-Control":     {"Pragma: no-cache\nCache-Control: max-age=60", 0, false, minutes, 0, false, "max-age=60"},
		"Warning means nothing":           {"Cache-Control: max-age=60\nWarning: 110 - \"Response is stale\"", 0, false, minutes, 0, false, "max-age=60"},
	} {
		t.Run(name, func(t *testing.T) {
			start, err := http.ParseTime(httpTime)
			if err != nil {
				t.Fatal(err)
			}
			k := &keeper{public: tc.shared, rule: &policy.Cache{TTL: 10 * minutes, StaleWhileRevalidate: minutes, StaleIfError: 2 * minutes}}
			f := readFreshness(header(t, tc.lines), !tc.shared, start, start.Add(tc.took))
			if f.never != (tc.fresh == never) {
				t.Fatalf("never: %v, %+v", f.never, f)
			}
			if f.never {
				return
			}
			fresh := k.rule.TTL
			if d := f.ttl(); d > 0 {
				fresh = min(fresh, d)
			}
			if fresh != tc.fresh || f.age != tc.age || f.noStale != tc.noStale {
				t.Errorf("fresh %v, age %v, never stale %v; want %v, %v, %v", fresh, f.age, f.noStale, tc.fresh, tc.age, tc.noStale)
			}
			want := map[bool]string{true: "public, ", false: "private, "}[tc.shared] + tc.control
			if got := k.control(&f); got != want {
				t.Errorf("Cache-Control %q, want %q", got, want)
			}
		})
	}
}

// FuzzCacheControl: whatever a service writes, the next cache is promised no longer time
// than this one has, and no number beyond what numbers count as.
func FuzzCacheControl(f *testing.F) {
	f.Add("max-age=60", "20", "", httpTime)
	f.Add(`no-cache="a,b", max-age=1, max-age="1"`, "", httpTime, "")
	f.Add("s-maxage=9, stale-if-error=99999999999999999999", "x", "0", "0")
	f.Fuzz(func(t *testing.T, control, age, expires, date string) {
		h := http.Header{"Cache-Control": {control}, "Age": {age}, "Expires": {expires}, "Date": {date}}
		start, _ := http.ParseTime(httpTime)
		for _, private := range []bool{true, false} {
			r := readFreshness(h, private, start, start.Add(time.Second))
			if r.never {
				continue
			}
			if r.age < time.Second || r.lifetime < 0 || r.said && r.ttl() <= 0 || max(r.lifetime, r.browser, r.revalidate, r.onError) > maxDelta*time.Second {
				t.Errorf("%q %q %q %q: %+v", control, age, expires, date, r)
			}
			lower := strings.ToLower(control)
			if strings.HasPrefix(lower, "no-store") || strings.HasSuffix(lower, ",no-store") && !strings.Contains(lower, `"`) {
				t.Errorf("%q may be kept", control)
			}
		}
	})
}
