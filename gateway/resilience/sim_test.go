package resilience

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
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
	next    int // method of the next call; each has its class of that number, or the last
	methods []*Method
	place   *Place // of the last call
}

func (o *ours) pick(method int) { o.next = method }

// picker is a gate that wants to know the method of the next call.
type picker interface{ pick(method int) }

// fleet is several gateways before one service; calls come to each in turn.
type fleet struct {
	gates []gate
	next  int
}

func (f *fleet) limit() (n int) {
	for _, g := range f.gates {
		n += g.limit()
	}
	return n
}

func (f *fleet) pick(method int) {
	f.next = (f.next + 1) % len(f.gates)
	if p, ok := f.gates[f.next].(picker); ok {
		p.pick(method)
	}
}

func (f *fleet) enter(p Priority) (func(Outcome), bool) { return f.gates[f.next].enter(p) }

func (o *ours) limit() int { return int(o.service.limiter.limit.Load()) }

func (o *ours) enter(p Priority) (func(Outcome), bool) {
	for len(o.methods) <= o.next {
		n := len(o.methods)
		o.methods = append(o.methods, o.service.Method(o.class[min(n, len(o.class)-1)].name, strconv.Itoa(n)))
	}
	permit, err := o.methods[o.next].Acquire(p)
	o.place = permit.Place()
	return o.place.Done, err == nil
}

// kind is a method of the simulated service.
type kind struct {
	share   float64 // of the calls
	work    time.Duration
	waiting bool // the time is waited, not worked: no worker is needed
	class   int
	// spread is how work is drawn: even between half and one and a half of it, unless.
	spread spread
	// upload is how long its caller sends, and stream says that its caller only listens.
	upload time.Duration
	stream bool
	// givesUp is the phase's, of this kind only.
	givesUp time.Duration
}

// spread is a distribution of mean 1.
type spread uint8

const (
	even    spread = iota
	exact          // always the same
	exp            // exponential
	heavy          // Pareto of 1.5: no variance, up to 500 times the least
	twoKind        // nine of ten take a half, one takes 5.5
)

func (s spread) draw(rnd *rand.Rand) float64 {
	switch s {
	case exact:
		return 1
	case exp:
		return rnd.ExpFloat64()
	case heavy:
		return min(math.Pow(1-rnd.Float64(), -1/1.5), 500) / 2.91
	case twoKind:
		if rnd.Float64() < 0.1 {
			return 5.5
		}
		return 0.5
	case even:
	}
	return 0.5 + rnd.Float64()
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
	// sharing services work all calls at once, and slow down beyond their workers.
	sharing bool
	steady  bool // calls come evenly, not at random
	batch   int  // so many at once, as often less
	// givesUp is how long callers wait; 0: the deadline.
	givesUp time.Duration
	// deadline is that of the rule; 0: a second.
	deadline time.Duration
	// Every stallEvery the service stands still for a stall.
	stall, stallEvery time.Duration
}

// result is what came of a phase.
type result struct {
	name                           string
	offered, refused, good, tooOld int
	offeredOf, refusedOf           [2]int // by priority
	p50, p99, p999                 time.Duration
	most                           int // in flight at the service
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

// events is a heap. It is container/heap's, whose interfaces take most of the time of these tests.
type events []event

func (e *events) push(x event) {
	h := append(*e, x)
	for j := len(h) - 1; j > 0 && h[j].at < h[(j-1)/2].at; j = (j - 1) / 2 {
		h[j], h[(j-1)/2] = h[(j-1)/2], h[j]
	}
	*e = h
}

func (e *events) pop() event {
	n := len(*e) - 1
	h, first := (*e)[:n], (*e)[0]
	if n > 0 {
		h[0] = (*e)[n]
	}
	(*e)[n] = event{}
	for i := 0; 2*i+1 < n; {
		j := 2*i + 1
		if j+1 < n && h[j+1].at < h[j].at {
			j++
		}
		if h[j].at >= h[i].at {
			break
		}
		h[i], h[j] = h[j], h[i]
		i = j
	}
	*e = h
	return first
}

// job is a call at the simulated service.
type job struct {
	left time.Duration // of its work; of a sharing service the virtual time of its end
	done func()
}

// simulation is a service, as discrete events.
type simulation struct {
	now     time.Duration
	todo    events
	rnd     *rand.Rand
	phase   *phase
	working int
	queue   []job
	stalled bool
	// Of a sharing service: each call has had so much work, as of then; turn tells the
	// events that are still meant.
	shared  []job
	virtual time.Duration
	asOf    time.Duration
	turn    int
	inside  int
}

func (s *simulation) after(d time.Duration, do func()) { s.todo.push(event{s.now + d, do}) }

// work gives a call to the service.
func (s *simulation) work(k kind, done func()) {
	took := time.Duration(float64(k.work) * k.spread.draw(s.rnd))
	s.inside++
	answer := func() { s.inside--; done() }
	switch {
	case k.waiting:
		s.after(took, answer)
	case s.phase.sharing:
		s.share()
		s.shared = append(s.shared, job{s.virtual + took, answer})
		s.shareNext()
	default:
		s.queue = append(s.queue, job{took, answer})
		s.serve()
	}
}

// serve begins what workers are free for.
func (s *simulation) serve() {
	for s.phase != nil && !s.stalled && s.working < s.phase.workers && len(s.queue) > 0 {
		j := s.queue[0]
		s.queue = s.queue[1:]
		s.working++
		s.after(j.left, func() { s.finish(j) })
	}
}

// finish ends a call, after the stall that it ended in.
func (s *simulation) finish(j job) {
	if s.stalled {
		s.after(s.phase.stall, func() { s.finish(j) })
		return
	}
	s.working--
	j.done()
	s.serve()
}

// pace is the share of its own processor that each call has.
func (s *simulation) pace() float64 {
	if s.stalled || s.phase == nil {
		return 0
	}
	return min(1, float64(s.phase.workers)/float64(max(len(s.shared), 1)))
}

// share brings the virtual time up to now.
func (s *simulation) share() {
	s.virtual += time.Duration(float64(s.now-s.asOf) * s.pace())
	s.asOf = s.now
}

// shareNext has the next call of a sharing service end.
func (s *simulation) shareNext() {
	s.turn++
	turn := s.turn
	if len(s.shared) == 0 || s.pace() == 0 {
		return
	}
	first := 0
	for i := range s.shared {
		if s.shared[i].left < s.shared[first].left {
			first = i
		}
	}
	s.after(max(time.Duration(math.Ceil(float64(s.shared[first].left-s.virtual)/s.pace())), 0), func() {
		if turn != s.turn {
			return
		}
		s.share()
		done := s.shared[first].done
		s.shared = slices.Delete(s.shared, first, first+1)
		s.shareNext()
		done()
	})
}

// stalls has the service stand still now and then.
func (s *simulation) stalls(p *phase) {
	s.after(p.stallEvery, func() {
		if s.phase != p {
			return
		}
		s.share()
		s.stalled = true
		s.shareNext()
		s.after(p.stall, func() {
			s.share()
			s.stalled = false
			s.shareNext()
			s.serve()
		})
		s.stalls(p)
	})
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
		apart := float64(max(p.batch, 1)) / p.rate
		if !p.steady {
			apart *= s.rnd.ExpFloat64()
		}
		s.after(time.Duration(apart*float64(time.Second)), func() {
			if s.phase != p {
				return
			}
			for range max(p.batch, 1) {
				s.call(g, p, &r, begin, &took)
			}
			r.most = max(r.most, s.inside)
			arrive()
		})
	}
	if p.stall > 0 {
		s.stalls(p)
	}
	if p.rate > 0 {
		arrive()
	}
	s.after(p.lasts, func() { s.phase = nil })
	s.stalled = false
	s.shareNext()
	s.serve() // There may be more workers than before.
	for s.phase != nil {
		e := s.todo.pop()
		advance(e.at - s.now)
		s.now = e.at
		e.do()
		r.lowest = min(r.lowest, g.limit())
	}
	slices.Sort(took)
	if len(took) > 0 {
		r.p50, r.p99, r.p999 = took[len(took)/2], took[len(took)*99/100], took[len(took)*999/1000]
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
	if o, ok := g.(picker); ok {
		o.pick(k.class)
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
	if wait := cmp.Or(k.givesUp, p.givesUp); wait > 0 {
		s.after(wait, func() { finish(Ignored) })
	}
	if k.stream { // Opened, and then quiet for as long as the gateway asks the breaker to wait.
		g.(*ours).place.Leave() //nolint:errcheck,forcetypeassert // Of ours only.
		s.after(2*time.Second, func() { finish(Ignored) })
		return
	}
	s.after(cmp.Or(p.deadline, deadline), func() { finish(Overload) })
	if k.upload == 0 {
		s.work(k, func() { finish(Success) })
		return
	}
	place := g.(*ours).place //nolint:errcheck,forcetypeassert // Of ours only.
	place.Leave()
	s.after(k.upload, func() {
		place.Return()
		s.work(k, func() { finish(Success) })
	})
}
