package ledger

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/sluice-gateway/sluice/gateway/limit"
)

// Usage is what was used of one quota in the present period.
type Usage struct {
	// Limit and Who are those of the limit.Key.
	Limit, Who string
	// Period is `day` or `month`.
	Period string
	// Used and Size are in tokens. What this process has leased and not used does
	// not count as used; what other processes have leased does.
	Used, Size int64
}

// Usage returns the present periods' quotas, as the file has them over all
// processes and restarts: the max that are used most, those first. It reads all
// rows, without holding up calls: it is for operators, not for requests.
func (l *Ledger) Usage(ctx context.Context, max int) ([]Usage, error) {
	var top []Usage
	now := l.now()
	err := l.store.each(ctx, func(r row) {
		full := len(top) >= max
		if max <= 0 || full && r.used <= top[max-1].Used {
			return
		}
		u := l.usage(r)
		at, _ := slices.BinarySearchFunc(top, u, func(a, b Usage) int {
			return cmp.Or(cmp.Compare(b.Used, a.Used), cmp.Compare(a.Limit, b.Limit), cmp.Compare(a.Who, b.Who))
		})
		if full {
			if at == max {
				return
			}
			top = top[:max-1]
		}
		top = slices.Insert(top, at, u)
	}, present, ends(now, limit.Day), ends(now, limit.Month))
	if err != nil {
		return nil, fmt.Errorf("ledger: usage: %w", err)
	}
	return top, nil
}

// UsageOf returns the usage of one limit, by its limit.Key.Limit, in the present
// period: that of most keys, in the order of their names. It reads their rows alone.
func (l *Ledger) UsageOf(ctx context.Context, name string, period limit.Period, most int) ([]Usage, error) {
	var all []Usage
	err := l.store.each(ctx, func(r row) { all = append(all, l.usage(r)) },
		presentOf, ends(l.now(), period), period, name, most)
	if err != nil {
		return nil, fmt.Errorf("ledger: usage of %s: %w", name, err)
	}
	return all, nil
}

func (l *Ledger) usage(r row) Usage {
	return Usage{Limit: r.key.limit, Who: r.key.who, Period: periodName(r.key.period), Size: r.size,
		Used: max(l.table.used(r.key, r.ends, r.used), 0)}
}
