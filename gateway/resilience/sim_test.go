package resilience

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"
)

// clock is a fake one.
type clock struct{ at time.Time }

func newClock() *clock                    { return &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }
func (c *clock) now() time.Time           { return c.at }
func (c *clock) advance(by time.Duration) { c.at = c.at.Add(by) }

// gate is a limiter under test: ours, or a library's.
type gate interface {
	enter(p Priority) (done func(Outcome), ok bool)
	limit() int
}

type ours struct {
	service *Service
	class   []*Class
	next    int // class of the next call
}

func (o *ours) limit() int { return int(o.service.limiter.limit.Load()) }

func (o *ours) enter(p Priority) (func(Outcome), bool) {
	permit, err := o.class[o.next].Acquire(p)
	return permit.Done, err == nil
}

// kind is a method of the simulated service.
type kind struct {
	share   float64 // of the calls
	work    time.Duration
	waiting bool // the time is waited, not worked: no worker is needed
	class   int
}

// phase is a stretch of a simulation.
type phase struct {
	name  string
	lasts time.Duration
	rate  float64 // calls a second; Poisson
	// workers is how many calls the service works at once; the rest queue.
	workers  int
	kinds    []kind
	optional float64 // share of the calls that are optional branches
	fail     float64 // share of the calls that fail at once
}

// result is what came of a phase.
type result struct {
	name                           string
	offered, refused, good, tooOld int
	offeredOf, refusedOf           [2]int // by priority
	p50, p99                       time.Duration
	limit, lowest                  int
	lasted                         time.Duration
	// lastRefused is when the last call was refused, from the phase's begin.
	lastRefused           time.Duration
	goodLate, refusedLate int // in the phase's second half
}

func (r *result) goodput() float64 { return float64(r.good) / r.lasted.Seconds() }

// deadline is what callers of the simulated service wait; the service works what they
// gave up too.
const deadline = time.Second

type event struct {
	at time.Duration
	do func()
}
type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) } //nolint:errcheck,forcetypeassert // Ours.
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// simulation is a service with workers and a queue, as discrete events.
type simulation struct {
	now     time.Duration
	todo    events
	rnd     *rand.Rand
	phase   *phase
	working int
	queue   []func()
}

func (s *simulation) after(d time.Duration, do func()) { heap.Push(&s.todo, event{s.now + d, do}) }

// work gives a call to a worker, or the queue.
func (s *simulation) work(k kind, done func()) {
	took := time.Duration(float64(k.work) * (0.5 + s.rnd.Float64()))
	if k.waiting {
		s.after(took, done)
		return
	}
	run := func() {
		s.working++
		s.after(took, func() {
			s.working--
			done()
			s.serve()
		})
	}
	s.queue = append(s.queue, run)
	s.serve()
}

func (s *simulation) serve() {
	for s.working < s.phase.workers && len(s.queue) > 0 {
		run := s.queue[0]
		s.queue = s.queue[1:]
		run()
	}
}

// simulate runs the phases one after the other; advance moves the clock of the gate.
func simulate(g gate, advance func(time.Duration), phases ...phase) []result {
	s := &simulation{rnd: rand.New(rand.NewPCG(7, 11))} //nolint:gosec // The same each time, on purpose.
	var out []result
	for i := range phases {
		s.phase = &phases[i]
		out = append(out, s.run(g, advance))
	}
	return out
}

func (s *simulation) run(g gate, advance func(time.Duration)) result {
	p, begin := s.phase, s.now
	r := result{name: p.name, lasted: p.lasts, lowest: g.limit()}
	var took []time.Duration
	var arrive func()
	arrive = func() {
		s.after(time.Duration(s.rnd.ExpFloat64()/p.rate*float64(time.Second)), func() {
			if s.phase != p {
				return
			}
			s.call(g, p, &r, begin, &took)
			arrive()
		})
	}
	if p.rate > 0 {
		arrive()
	}
	s.after(p.lasts, func() { s.phase = nil })
	s.serve() // There may be more workers than before.
	for s.phase != nil {
		e := heap.Pop(&s.todo).(event) //nolint:errcheck,forcetypeassert // Ours.
		advance(e.at - s.now)
		s.now = e.at
		e.do()
		r.lowest = min(r.lowest, g.limit())
	}
	slices.Sort(took)
	if len(took) > 0 {
		r.p50, r.p99 = took[len(took)/2], took[len(took)*99/100]
	}
	r.limit = g.limit()
	return r
}

// call is one caller.
func (s *simulation) call(g gate, p *phase, r *result, begin time.Duration, took *[]time.Duration) {
	k := p.kinds[0]
	for draw, i := s.rnd.Float64(), 0; i < len(p.kinds); i++ {
		if k = p.kinds[i]; draw < k.share {
			break
		}
		draw -= k.share
	}
	priority := Whole
	if s.rnd.Float64() < p.optional {
		priority = Optional
	}
	if o, ok := g.(*ours); ok {
		o.next = k.class
	}
	late := s.now-begin > p.lasts/2
	r.offered++
	r.offeredOf[priority]++
	done, ok := g.enter(priority)
	if !ok {
		r.refused++
		r.refusedOf[priority]++
		r.lastRefused = s.now - begin
		if late {
			r.refusedLate++
		}
		return
	}
	if s.rnd.Float64() < p.fail {
		s.after(time.Millisecond, func() { done(Failure) })
		return
	}
	at, answered := s.now, false
	finish := func(o Outcome) {
		if answered {
			return
		}
		answered = true
		if done(o); o != Success {
			r.tooOld++
			return
		}
		if s.phase == p {
			r.good++
			if s.now-begin > p.lasts/2 {
				r.goodLate++
			}
		}
		*took = append(*took, s.now-at)
	}
	s.after(deadline, func() { finish(Overload) })
	s.work(k, func() { finish(Success) })
}
