package resilience

import (
	"sync"
	"sync/atomic"
	"time"
)

// budgetWindow is the time that first attempts earn retries for.
const budgetWindow = 10 * time.Second

// budget bounds retries by a share of the first attempts: when everything fails, a
// service gets a fifth more calls, not three times as many. The floor lets a service
// that is seldom called retry too; it is pooled over the window, for calls that fail
// fail together.
type budget struct {
	window          window // total: first attempts; marked: retries that were granted
	mu              sync.Mutex
	granted, denied atomic.Uint64
}

// earn counts a first attempt.
func (b *budget) earn(now time.Duration) { b.window.at(now, budgetWindow).total.Add(1) }

// take grants a retry, or not.
func (b *budget) take(now time.Duration, o *BudgetOptions) bool {
	if !b.spend(now, o) {
		b.denied.Add(1)
		return false
	}
	b.granted.Add(1)
	return true
}

func (b *budget) spend(now time.Duration, o *BudgetOptions) bool {
	if o.Off {
		return false
	}
	// The lock makes look and count one: callers that ask together get no more.
	b.mu.Lock()
	defer b.mu.Unlock()
	here := b.window.at(now, budgetWindow)
	firsts, retries := b.window.sum(now, budgetWindow)
	floor := int64(o.MinPerSecond) * int64(budgetWindow/time.Second)
	if retries+1 > firsts*int64(o.Percent)/100+floor {
		return false
	}
	here.marked.Add(1)
	return true
}

// giveBack takes a retry that was granted out of the count. Where its tenth of the window
// has passed, the count of this one may be below zero until both have.
func (b *budget) giveBack(now time.Duration) { b.window.at(now, budgetWindow).marked.Add(-1) }
