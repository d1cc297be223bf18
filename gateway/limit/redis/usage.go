package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/gateway/limit"
)

// Used returns what each of who has used of a quota in the present period, in
// one question to Redis; the quota is named by its limit.Key.Limit. It is for
// operators: it waits as long as ctx lasts, and has no part in the breaker.
func (s *Store) Used(ctx context.Context, quota string, period limit.Period, who []string) ([]int64, error) {
	used := make([]int64, len(who))
	if len(who) == 0 {
		return used, nil
	}
	c := s.conn.Load()
	if c == nil {
		return nil, errDown
	}
	keys := make([]string, len(who))
	for i, w := range who {
		keys[i] = key(s.prefix, &limit.Ask{Key: limit.Key{Limit: quota, Who: w}, Period: period})
	}
	values, err := c.client.Do(ctx, c.client.B().Mget().Key(keys...).Build()).ToArray()
	if err != nil {
		return nil, err
	}
	for i := range values {
		if values[i].IsNil() {
			continue // Nothing yet: what is past has expired.
		}
		text, err := values[i].ToString()
		if err != nil {
			return nil, err
		}
		_, count, _ := strings.Cut(text, " ") // The start of the period, and the count (take.lua).
		if used[i], err = strconv.ParseInt(count, 10, 64); err != nil {
			return nil, fmt.Errorf("the count of %s: %w", keys[i], err)
		}
	}
	return used, nil
}
