package limit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// defaultMaxKeys is how many budgets a Memory remembers by default.
const defaultMaxKeys = 1 << 20

// MemoryOptions make a Memory.
type MemoryOptions struct {
	// MaxKeys is how many budgets are remembered at once, 16 bytes each, allocated
	// at once and held by the system only as they are used. Default 1048576; less
	// than 16 means 16.
	MaxKeys int
	// Now is the clock. Default: the process's monotonic clock.
	Now func() time.Time
	// Metrics is where sluice_limit_keys and sluice_limit_evicted_total are
	// registered: once, so two Memories need two registries. Nil means nowhere.
	Metrics prometheus.Registerer
}

// Memory keeps rates in this process, by GCRA. It is a Store that holds no
// quotas: asking for one is an error. It never grows beyond MaxKeys: a new key
// takes a place whose budget is full again, and if there is none, the place of
// the budget that has used least. A flood of new keys therefore drives out keys
// that hardly called, and neither those who have used much nor newcomers.
// It is safe for concurrent use, and allocates nothing for up to 8 asks.
type Memory struct {
	table   *table
	clock   *clock
	evicted prometheus.Counter
}

var _ Store = (*Memory)(nil)

// NewMemory makes a Memory.
func NewMemory(o MemoryOptions) *Memory {
	if o.MaxKeys == 0 {
		o.MaxKeys = defaultMaxKeys
	}
	m := &Memory{table: newTable(o.MaxKeys), clock: newClock(o.Now), evicted: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sluice_limit_evicted_total",
		Help: "Rates in memory that were forgotten before their budget was full again, because others needed the place."})}
	if o.Metrics != nil {
		o.Metrics.MustRegister(m.evicted, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sluice_limit_keys",
			Help: "Rates in memory whose budget is not full.",
		}, func() float64 { return float64(m.keys()) }))
	}
	return m
}

// keys counts the budgets that are not full.
func (m *Memory) keys() int { return m.table.live(m.clock.read()) }

// Close does nothing: a Memory holds nothing but memory.
func (m *Memory) Close() error { return nil }

// Take decides over all asks at once. It takes no longer than the locks of
// others' decisions, and does not look at ctx. Asks have different keys.
func (m *Memory) Take(_ context.Context, asks []Ask, answers []Answer) (bool, error) {
	_, ok, err := m.take(asks, answers)
	return ok, err
}

// take is Take, and says when it decided.
func (m *Memory) take(asks []Ask, answers []Answer) (now int64, ok bool, err error) {
	if len(answers) != len(asks) {
		return 0, false, fmt.Errorf("limit: %d answers to %d asks", len(answers), len(asks))
	}
	var buf [8]place
	places := buf[:0]
	for i := range asks {
		a := &asks[i]
		if err := checkRate(a); err != nil {
			return 0, false, err
		}
		p := m.table.locate(a.Key.Limit, a.Key.Who)
		for j := range places {
			if places[j].a == p.a && places[j].tag == p.tag {
				return 0, false, fmt.Errorf("limit: %s is asked twice", a.Key.Limit)
			}
		}
		places = append(places, p)
	}
	now = m.clock.read()
	return now, m.decide(asks, places, answers, now), nil
}

// takeAddress is Take of one ask, for whom it counts as bytes.
func (m *Memory) takeAddress(a *Ask, who []byte) Answer {
	asks, answers := [1]Ask{*a}, [1]Answer{}
	places := [1]place{m.table.locateBytes(a.Key.Limit, who)}
	m.decide(asks[:], places[:], answers[:], m.clock.read())
	return answers[0]
}

// decide holds the locks of all its budgets while it looks and while it writes.
// To take from one after another and give back on a refusal would do with one
// lock at a time, but what is taken for a moment refuses others: a caller over
// its own limit would keep knocking holes into the global one. The locks are
// taken in order and held for some ten nanoseconds of arithmetic. A now that is
// older than what others have written makes the debt look larger, never smaller.
func (m *Memory) decide(asks []Ask, places []place, answers []Answer, now int64) bool {
	var buf [8]int
	held := m.table.lock(places, buf[:0])
	defer m.table.unlock(held)
	admitted := true
	for i := range asks {
		p := &places[i]
		p.cell = weigh(&asks[i], p.find(), now)
		ok := p.cell.admits(&asks[i])
		answers[i].OK = ok
		admitted = admitted && ok
	}
	for i := range asks {
		c := &places[i].cell
		if admitted {
			c.debt += c.cost
			if places[i].store(now+c.debt, c.window, now) {
				m.evicted.Inc()
			}
		}
		answers[i] = c.answer(&asks[i], answers[i].OK)
	}
	return admitted
}

// giveBack returns what take took at taken, and brings the answers up to date.
// The part of it that time has returned meanwhile is not returned again: tokens
// come back in the order of their taking, so of the last cost before the TAT that
// take left there is no more to give than what lies after now. Where several
// refusals overlap, that part is off by no more than the time of a decision.
func (m *Memory) giveBack(asks []Ask, answers []Answer, taken int64) {
	now := m.clock.read()
	for i := range asks {
		a := &asks[i]
		p := m.table.locate(a.Key.Limit, a.Key.Who)
		m.table.shards[p.shard].mu.Lock()
		tat := p.find()
		if p.in != nil {
			tat -= min(span(a.Cost, a.Emission), max(0, taken+int64(answers[i].Reset)-now))
			p.in.tats[p.way] = tat
		}
		c := weigh(a, tat, now)
		m.table.shards[p.shard].mu.Unlock()
		answers[i] = c.answer(a, true)
	}
}

var errQuotaInMemory = errors.New("limit: a quota was asked of a store that keeps rates only")

func checkRate(a *Ask) error {
	switch {
	case a.Period != NoPeriod:
		return errQuotaInMemory
	case a.Cost < 1 || a.Size < 1 || a.Emission < 1:
		return fmt.Errorf("limit: %s: cost %d, size %d and emission %d must be positive", a.Key.Limit, a.Cost, a.Size, a.Emission)
	}
	return nil
}
