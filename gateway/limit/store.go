package limit

import (
	"context"
	"time"
)

// Key names one budget: a limit and whom it counts.
type Key struct {
	// Limit is unique among all limits of a configuration, such as
	// `read/principal/0`.
	Limit string
	// Who is whom it counts, such as a subject; empty for a limit that counts
	// everyone together.
	Who string
}

// Period is a calendar period of UTC.
type Period int

// The periods of quotas.
const (
	// NoPeriod marks a rate.
	NoPeriod Period = iota
	Day
	Month
)

// Ask is what a call asks of one budget: a rate when Period is NoPeriod, else a
// quota.
type Ask struct {
	Key Key
	// Cost is how many tokens the call takes; at least 1.
	Cost int64
	// Size is how many tokens a full budget holds: the burst of a rate, the
	// requests of a quota.
	Size int64
	// Emission is the time in which a rate gives one token back. At least 1 ns.
	Emission time.Duration
	// Period of a quota.
	Period Period
}

// Answer says how one budget stands after a decision.
type Answer struct {
	// OK says whether the budget had room for the cost.
	OK bool
	// Remaining is how many tokens are left.
	Remaining int64
	// Reset is the time until the budget is full again.
	Reset time.Duration
	// Retry is, when not OK, the time until there is room for the cost; negative
	// means never, for the cost is larger than the budget.
	Retry time.Duration
}

// Store keeps budgets. It is safe for concurrent use.
type Store interface {
	// Take decides over all asks at once: when every budget has room, the cost is
	// taken from each, else from none. answers has the length of asks and is
	// filled in; it belongs to the caller. An error means that nothing could be
	// decided.
	Take(ctx context.Context, asks []Ask, answers []Answer) (admitted bool, err error)
	// Close releases what the store holds.
	Close() error
}
