package limit

import (
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// The answer's fields, after draft-ietf-httpapi-ratelimit-headers-10 (RFC 9651
// structured fields, lists of strings with parameters):
//
//	RateLimit-Policy: "read-principal";q=100;w=2, "read-api_key-day";q=10000;w=86400
//	RateLimit: "read-principal";r=99;t=1, "read-api_key-day";r=9998;t=3600
//
// q is what a full budget holds (the burst of a rate) and w the seconds in which
// an empty one fills; r is what is left and t the seconds until the budget is
// full. On a refusal t of the budget without room is the time to wait, for the
// draft asks that it agree with Retry-After. Seconds are whole, and rounded up. A
// calendar month has no one length, so it has no w.
var (
	fieldPolicy    = policy.NewHeader("RateLimit-Policy")
	fieldRateLimit = policy.NewHeader("RateLimit")
)

// maxInteger is the largest integer of a structured field.
const maxInteger = 999_999_999_999_999

func (b *budget) policyItem() string {
	s := `"` + b.name + `";q=` + strconv.FormatInt(min(b.ask.Size, maxInteger), 10)
	switch {
	case b.ask.Period == Day:
		s += ";w=86400"
	case !b.quota:
		s += ";w=" + strconv.FormatInt(seconds(time.Duration(span(b.ask.Size, b.ask.Emission))), 10)
	}
	return s
}

// appendRateLimit appends the value of the RateLimit field; nothing when no
// budget was looked at.
func appendRateLimit(out []byte, budgets []*budget, answers []Answer) []byte {
	start := len(out)
	for i, b := range budgets {
		a := &answers[i]
		if a.Remaining < 0 {
			continue
		}
		if len(out) > start {
			out = append(out, ", "...)
		}
		out = append(out, b.item...)
		out = strconv.AppendInt(out, min(a.Remaining, maxInteger), 10)
		out = append(out, ";t="...)
		wait := a.Reset
		if !a.OK && a.Retry >= 0 {
			wait = b.wait(a.Retry)
		}
		out = strconv.AppendInt(out, seconds(wait), 10)
	}
	return out
}

// wait is the time a caller is told to wait: rounded up, so that who waits
// exactly that long gets in.
func (b *budget) wait(retry time.Duration) time.Duration {
	if b.quota {
		return roundUp(retry, time.Second)
	}
	return roundUp(retry, time.Millisecond)
}

func roundUp(d, to time.Duration) time.Duration {
	if rest := d % to; rest > 0 {
		return d - rest + to
	}
	return d
}

func seconds(d time.Duration) int64 { return int64(roundUp(d, time.Second) / time.Second) }
