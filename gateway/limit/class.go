package limit

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Per is whom a limit counts.
type Per int

// Whom limits count.
const (
	// PerPrincipal counts a subject, over both edges and all its credentials; an
	// anonymous caller counts by its address, and not at all in quotas.
	PerPrincipal Per = iota
	// PerAPIKey counts an API key; callers without one are not counted.
	PerAPIKey
	// PerAddress counts an IPv4 address or the /64 of an IPv6 address, which is
	// what one customer gets.
	PerAddress
	// PerMethod counts an RPC.
	PerMethod
	// PerTenant counts a tenant; callers without one are not counted.
	PerTenant
	// PerGlobal counts everything together.
	PerGlobal
)

var perNames = [...]string{"principal", "api_key", "address", "method", "tenant", "global"}

// ParsePer reads the `per` of the configuration.
func ParsePer(s string) (Per, error) {
	for i, name := range perNames {
		if s == name {
			return Per(i), nil
		}
	}
	return 0, fmt.Errorf("per %q is none of %s", s, strings.Join(perNames[:], ", "))
}

// String is the name in the configuration.
func (p Per) String() string {
	if !p.valid() {
		return "Per(" + strconv.Itoa(int(p)) + ")"
	}
	return perNames[p]
}

func (p Per) valid() bool { return p >= 0 && int(p) < len(perNames) }

// Rate is a limit held by GCRA: Requests in each Interval, evenly, with Burst of
// them at once.
type Rate struct {
	Per Per
	// Requests of cost 1 in an interval; at most one in a nanosecond.
	Requests int64
	// Interval is a second when zero.
	Interval time.Duration
	// Burst is Requests when zero.
	Burst int64
}

func (r Rate) withDefaults() Rate {
	if r.Interval == 0 {
		r.Interval = time.Second
	}
	if r.Burst == 0 {
		r.Burst = r.Requests
	}
	return r
}

// emission is rounded down, so that 90 a minute fill in a minute and not in a
// nanosecond more, which answers would call 61 seconds; and up where down would
// let through a thousandth too many.
func (r Rate) emission() time.Duration {
	e, rest := int64(r.Interval)/r.Requests, int64(r.Interval)%r.Requests
	if e < 1000 && rest > 0 {
		e++
	}
	return time.Duration(e)
}

func (r Rate) check() error {
	switch {
	case !r.Per.valid():
		return fmt.Errorf("a rate is per nobody: %v", r.Per)
	case r.Requests < 1 || r.Interval < 0 || r.Burst < 0:
		return fmt.Errorf("a rate per %v needs positive requests, interval and burst", r.Per)
	}
	r = r.withDefaults()
	if r.Requests > int64(r.Interval) {
		return fmt.Errorf("%v: more than one request in a nanosecond", r)
	}
	if span(r.Burst, r.emission()) == maxWindow {
		return fmt.Errorf("%v: the burst would take more than 36 years to come back", r)
	}
	return nil
}

// String is the rate in words, such as `50/s per principal, burst 100`.
func (r Rate) String() string {
	r = r.withDefaults()
	s := fmt.Sprintf("%d/%s per %v", r.Requests, unit(r.Interval), r.Per)
	if r.Burst != r.Requests {
		s += ", burst " + strconv.FormatInt(r.Burst, 10)
	}
	return s
}

func unit(d time.Duration) string {
	switch d {
	case time.Second:
		return "s"
	case time.Minute:
		return "min"
	case time.Hour:
		return "h"
	}
	return d.String()
}

// Quota is a limit of so many in a calendar period of UTC.
type Quota struct {
	// Per is PerPrincipal, PerAPIKey, PerTenant or PerGlobal: an account is kept
	// across restarts, and addresses would fill the disk.
	Per Per
	// Requests of cost 1 in a period.
	Requests int64
	Period   Period
}

func (q Quota) check() error {
	switch q.Per {
	case PerPrincipal, PerAPIKey, PerTenant, PerGlobal:
	default:
		return fmt.Errorf("a quota cannot be per %v", q.Per)
	}
	if q.Period != Day && q.Period != Month {
		return fmt.Errorf("a quota per %v needs a period of a day or a month", q.Per)
	}
	if q.Requests < 1 {
		return fmt.Errorf("a quota per %v needs positive requests", q.Per)
	}
	return nil
}

// String is the quota in words, such as `10000/day per api_key`.
func (q Quota) String() string {
	return fmt.Sprintf("%d/%s per %v", q.Requests, periodName(q.Period), q.Per)
}

// Name is what answers, errors and metrics call the quota of a class, such as
// `batch-api_key-day`.
func (q Quota) Name(class string) string {
	return class + "-" + q.Per.String() + "-" + periodName(q.Period)
}

// Account is the Key.Limit under which stores keep the quota of a class.
func (q Quota) Account(class string) string {
	return class + "/" + q.Per.String() + "/" + periodName(q.Period)
}

func periodName(p Period) string {
	switch p {
	case Day:
		return "day"
	case Month:
		return "month"
	}
	return "period"
}

// Class is a set of limits under a name.
type Class struct {
	// Name is lower-case letters, digits and hyphens.
	Name   string
	Rates  []Rate
	Quotas []Quota
	// MaxInFlightPerCaller bounds the calls of one caller over all methods of the
	// class at once, MaxInFlightPerMethod those of one method. 0 means no bound.
	MaxInFlightPerCaller, MaxInFlightPerMethod int
}

// String is the class in words, such as
// `50/s per principal, burst 100; 10000/day per api_key`.
func (c Class) String() string {
	var parts []string
	for _, r := range c.Rates {
		parts = append(parts, r.String())
	}
	for _, q := range c.Quotas {
		parts = append(parts, q.String())
	}
	if c.MaxInFlightPerCaller > 0 {
		parts = append(parts, fmt.Sprintf("%d in flight per caller", c.MaxInFlightPerCaller))
	}
	if c.MaxInFlightPerMethod > 0 {
		parts = append(parts, fmt.Sprintf("%d in flight per method", c.MaxInFlightPerMethod))
	}
	if len(parts) == 0 {
		return "no limit"
	}
	return strings.Join(parts, "; ")
}
