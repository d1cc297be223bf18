package upstream

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// Canary is a new version of a service that gets a part of its calls.
type Canary struct {
	// Name is its name in logs and metrics: the variant.
	Name string
	// Target is where it runs.
	Target Target
	// Percent of the calls that no canary matches.
	Percent float64
	// PerRequest draws for each call anew. Otherwise a principal always gets the same,
	// an anonymous caller by its address; who is in stays in when Percent grows.
	PerRequest bool
	// Match says which calls come here whatever Percent says: any of them.
	Match []CanaryMatch
	// Methods that it gets, by their short names; empty means all.
	Methods []string
	// Resilience is the canary's own: that it fails must not shut the service. Nil
	// means none.
	Resilience *resilience.Service
}

// CanaryMatch is a request header, or a cookie.
type CanaryMatch struct {
	Header, Cookie string
	// Value it must have; empty means any.
	Value string
}

// shadowVariant is the name of the shadow in metrics.
const shadowVariant = "shadow"

var variantName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)

func (v *Canary) check() error {
	var errs []error
	if !variantName.MatchString(v.Name) {
		errs = append(errs, errors.New("its name must be lower-case letters, digits and -, 31 at most"))
	}
	if v.Name == shadowVariant {
		errs = append(errs, errors.New("its name is that of shadows"))
	}
	if v.Target == nil {
		errs = append(errs, errors.New("it has no target"))
	}
	if !(v.Percent >= 0 && v.Percent <= 100) {
		errs = append(errs, errors.New("percent must be from 0 to 100"))
	}
	for _, m := range v.Match {
		if (m.Header == "") == (m.Cookie == "") {
			errs = append(errs, errors.New("a match names either a header or a cookie"))
		}
	}
	return errors.Join(errs...)
}

// canary is a Canary as it stands for one method.
type canary struct {
	destination
	percent    float64
	perRequest bool
	seed       uint64
	match      []match
}

type match struct {
	header policy.Header
	cookie string
	value  string
}

func (v *Canary) on(m *policy.Method) canary {
	c := canary{
		destination: newDestination(m, v.Target, v.Name, v.Resilience),
		percent:     v.Percent, perRequest: v.PerRequest,
		// A draw of its own: another service's canary gets other callers.
		seed: xxhash.Sum64String(m.Service + "\x00" + v.Name),
	}
	for _, from := range v.Match {
		to := match{cookie: from.Cookie, value: from.Value, header: cookieHeader}
		if from.Header != "" {
			to.header = policy.NewHeader(from.Header)
		}
		c.match = append(c.match, to)
	}
	return c
}

// choose returns where the call goes; nil is the service itself. A match counts before
// any draw: who asks for a version gets it.
func choose(all []canary, call *policy.Call) *destination {
	for i := range all {
		for j := range all[i].match {
			if all[i].match[j].holds(call) {
				return &all[i].destination
			}
		}
	}
	for i := range all {
		if all[i].draws(call) {
			return &all[i].destination
		}
	}
	return nil
}

var cookieHeader = policy.NewHeader("Cookie")

func (m *match) holds(call *policy.Call) bool {
	if call.Headers == nil {
		return false
	}
	have := call.Headers(m.header.On(call.Edge))
	if m.cookie == "" {
		return len(have) > 0 && (m.value == "" || slices.Contains(have, m.value))
	}
	if len(have) == 0 {
		return false
	}
	// net/http's parser passes over what is no cookie; the first of a name counts.
	c, err := (&http.Request{Header: http.Header{"Cookie": have}}).Cookie(m.cookie)
	return err == nil && (m.value == "" || c.Value == m.value)
}

// draws says whether the call is of the canary's percent.
func (c *canary) draws(call *policy.Call) bool {
	switch {
	case c.percent <= 0:
		return false
	case c.percent >= 100:
		return true
	case c.perRequest:
		return drawn(c.percent)
	}
	h, ok := callerHash(c.seed, call)
	if !ok {
		return drawn(c.percent)
	}
	// The hash's place between 0 and 1 stays where it is when percent changes.
	return float64(h>>11)/(1<<53)*100 < c.percent
}

// drawn is true in so many of a hundred cases.
func drawn(percent float64) bool {
	return percent >= 100 || rand.Float64()*100 < percent //nolint:gosec // Chance, not secrecy.
}

// callerHash is the same for a caller's calls: by its principal, else by its address.
// It says false where there is neither.
func callerHash(seed uint64, call *policy.Call) (uint64, bool) {
	var d xxhash.Digest
	d.ResetWithSeed(seed)
	if p := call.Principal; p != nil && p.Authenticated() {
		for _, part := range [...]string{p.Issuer, p.Subject, p.Tenant} {
			_, _ = d.WriteString(part)
			_, _ = d.WriteString("\x00") // Or two callers could be one.
		}
		return d.Sum64(), true
	}
	if !call.Client.IsValid() {
		return 0, false
	}
	address := call.Client.As16()
	_, _ = d.Write(address[:])
	return d.Sum64(), true
}
