package limit

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// unknown is the Remaining of a budget that was not looked at, because another
// had no room already.
const unknown = -1

// local keeps rates and quotas in two stores.
type local struct {
	rates  *Memory
	quotas Store
}

// NewLocal returns a store of one gateway: rates in memory, quotas in a store
// that outlives the process, such as gateway/limit/ledger. Rates are asked first,
// so that no caller over its rate costs a write to disk; when the quotas have no
// room or fail, the rates get their tokens back. Quotas that were not asked,
// because a rate had no room, are answered with a negative Remaining. quotas may
// be nil: asking for a quota is an error then.
func NewLocal(rates *Memory, quotas Store) Store { return &local{rates: rates, quotas: quotas} }

var errNoQuotas = errors.New("limit: a quota was asked, and there is no store for quotas")

// Take decides over all asks at once.
func (l *local) Take(ctx context.Context, asks []Ask, answers []Answer) (bool, error) {
	if len(answers) != len(asks) {
		return false, fmt.Errorf("limit: %d answers to %d asks", len(answers), len(asks))
	}
	n := 0
	for n < len(asks) && asks[n].Period == NoPeriod {
		n++
	}
	for i := n; i < len(asks); i++ {
		if asks[i].Period == NoPeriod {
			return l.takeSorted(ctx, asks, answers)
		}
	}
	if n < len(asks) && l.quotas == nil {
		return false, errNoQuotas
	}
	taken, ok, err := l.rates.take(asks[:n], answers[:n])
	if err != nil {
		return false, err
	}
	if !ok {
		for i := n; i < len(asks); i++ {
			answers[i] = Answer{OK: true, Remaining: unknown}
		}
		return false, nil
	}
	if n == len(asks) {
		return true, nil
	}
	ok, err = l.quotas.Take(ctx, asks[n:], answers[n:])
	if err != nil || !ok {
		l.rates.giveBack(asks[:n], answers[:n], taken)
	}
	return ok && err == nil, err
}

// takeSorted is Take for asks that do not come rates first.
func (l *local) takeSorted(ctx context.Context, asks []Ask, answers []Answer) (bool, error) {
	order := make([]int, len(asks))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return min(int(asks[i].Period), 1) - min(int(asks[j].Period), 1) })
	sorted, out := make([]Ask, len(asks)), make([]Answer, len(answers))
	for at, i := range order {
		sorted[at] = asks[i]
	}
	ok, err := l.Take(ctx, sorted, out)
	if err == nil {
		for at, i := range order {
			answers[i] = out[at]
		}
	}
	return ok, err
}

// Close closes the store of the quotas.
func (l *local) Close() error {
	if l.quotas == nil {
		return nil
	}
	return l.quotas.Close()
}
