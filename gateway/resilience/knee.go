package resilience

import (
	"math"
	"time"
)

// What the limit goes by. They are not settings: nobody could say which to choose, and
// docs/decisions/0021-resilience.md has what each was tried with.
const (
	// A window is as long, or twice the usual latency (a change must show in it), and
	// has as many answers, or goes on until it has, or until the service seems dead.
	minWindow  = 50 * time.Millisecond
	minAnswers = 24
	// The usual latency moves up and down with these time constants, in seconds.
	learnUp, learnDown = 20, 5
	// optionalShare of the limit is for optional branches.
	optionalShare = 0.8
	// room is how many times the work of a service may be in flight before anything is
	// refused, and slack the time that calls may queue where that is more: collectors and
	// schedulers stop a process for so long, and no caller minds.
	room  = 2.5
	slack = 120 * time.Millisecond
	// mostRoom is as much as that grows to while it is used, as it is by chance where a
	// service is nearly at its capacity: 9 of 10 workers used and random arrivals
	// have a queue of some 90 once in a hundred thousand calls.
	mostRoom = 10
	// fewest calls are never refused before an overload is certain, enough tell the latency.
	fewest, enough = 24, 100
	// relief is a queue in an overload that no caller minds, so that the workers of a fast but uneven
	// service do not wait.
	relief = 5 * time.Millisecond
	// In an overload as many times the service's work are in flight: enough for its
	// workers never to wait for a call, and a latency of half as much again.
	above = 1.5
	// A probe has less in flight than the service works at once, so that no call queues.
	below = 0.8
	// held says that throughput has stayed, slowed that it has fallen without a cut.
	held, slowed = 0.9, 0.65
	// A probe that nothing called for may find the queue of other gateways: this much of
	// the latency, and less, can be theirs.
	others = 1.8
	// probeEvery is the time between probes in a lasting overload. They are aligned to the
	// clock: gateways before one service must probe at once, or each finds the queue
	// of the others.
	probeEvery = 20 * time.Second
	// The peak of a service's work is forgotten with this time constant.
	forget = time.Minute
)

// mode is what the limit is for now.
type mode uint8

const (
	// free: there is no overload. The limit has room for what chance and pauses do.
	free mode = iota
	// probing: few calls are let in, to see the latency without a queue.
	probing
	// holding: there is an overload, and the limit stays at the knee.
	holding
)

// knee finds the knee of a service: the calls in flight beyond which it does not
// answer more of them, but only later. It is a state machine: decide takes a window and
// returns the next limit.
//
// While nothing is refused it watches how much work the service does. When more calls
// than it works come for long enough to fill the limit, the limit falls below the knee
// for a window. There either throughput falls, then what calls take now is their
// latency without a queue, or it stays, then the knee is lower still. Work at full
// throughput is the knee, and the limit stays there until fewer calls come than
// the service can do.
type knee struct {
	mode mode
	// limit is for what may be refused first, reserve what whole requests have beyond it
	// in an overload that refusing optional branches ends.
	limit, reserve float64
	// work is an average of the windows', peak the most of it for a while.
	work, peak float64
	// usual and span are of the last window.
	usual, span float64
	// before is the work before a probe, slow says that the probe is because of a
	// service that has become slower: only then may latency without a queue have risen.
	before float64
	slow   bool
	// unsure: the last probe could not go low enough to tell the latency.
	unsure bool
	// cut is when a probe last lowered the limit.
	cut time.Duration
	// at is the knee.
	at float64
	// suspect counts windows in a row that look like overload, while free.
	suspect int
	// spare is how much work less than the service can do has come while holding.
	spare float64
	// probeAt is when the next probe is due.
	probeAt time.Duration
	// offset is the wall clock at the service's time 0, within probeEvery.
	offset time.Duration
	// scale is what the last window corrects the usual latencies by.
	scale float64
	// total is the product of the scales since latencies were last learnt: probes that
	// nothing called for may take back what they lowered, and no more.
	total float64
	// burst is what the limit needed to be lately, while free; calls counts answers.
	burst, calls float64
}

// starved is how long a window may go without enough answers.
func (k *knee) starved() time.Duration { return max(time.Second, time.Duration(4*k.usual)) }

// window is how long the next window is, at least.
func (k *knee) window() time.Duration {
	if k.mode == free {
		return max(minWindow, time.Duration(2*k.usual))
	}
	return max(2*minWindow, time.Duration(2*k.span))
}

// takeScale returns the correction of the usual latencies, once.
func (k *knee) takeScale() float64 {
	scale := k.scale
	k.scale = 1
	return scale
}

func (s *seen) share() float64   { return s.refused / max(s.refused+s.answers, 1) }
func (s *seen) stretch() float64 { return s.mean / max(s.usual, 1) }

// crowd is how many times its work is in flight, where the limit is reached: by Little's
// law what calls take now, as multiple of the usual latency. The latencies of a window's
// answers tell that only when these calls are answered.
func (s *seen) crowd() float64 {
	n := math.Round(s.limit)
	if s.spared() {
		n *= optionalShare
	}
	return n / max(s.work, 0.001)
}

// told says whether there are answers enough to go by, of calls after the last cut.
func (s *seen) told() bool { return s.timed >= minAnswers || s.timed > 0 && s.took >= time.Second }

// spared says that hardly any whole request was refused.
func (s *seen) spared() bool { return s.whole < 0.1*(s.whole+s.answers) }

// dead says that calls are refused and those that are not hardly get an answer. It takes drops, or
// that nobody at all was answered while calls lasted longer than usual: callers who go
// away early, and calls that nothing is known of, tell nothing.
func (s *seen) dead() bool {
	if s.drops > 0 {
		return (s.refused > 0 || s.first >= fewest) && 2*s.drops >= s.answers-s.left
	}
	return s.refused > 0 && s.answers == s.left && s.overdue > 0
}

// decide moves the limit.
func (k *knee) decide(s seen, o *ConcurrencyOptions) {
	k.scale = 1
	k.calls += s.answers - s.left
	if s.timed > 0 {
		k.usual, k.span = s.usual, s.span
	}
	switch {
	case s.dead():
		k.holdAt(s, (max(0.5*min(s.limit, s.first), float64(o.Min))-1)/above)
		k.cut = s.now
	case k.mode == probing:
		k.probed(s, o)
	case k.mode == holding:
		k.hold(s, o)
	default:
		k.free(s, o)
	}
}

// free is for the time without an overload.
func (k *knee) free(s seen, o *ConcurrencyOptions) {
	seconds := s.took.Seconds()
	k.work += (s.work - k.work) * min(seconds, 1)
	k.peak = max(k.peak*math.Exp(-seconds/forget.Seconds()), k.work)
	queue := max(float64(slack), 1.5*k.span) / max(k.usual, float64(time.Microsecond))
	full := k.peak * (mostRoom + queue)
	known := s.work >= 0.8*k.peak
	switch {
	case s.refused == 0:
		k.suspect = 0
	case s.first < 0.7*s.limit || s.work == 0:
		return // It was not full all the time: what answers there are do not show it.
	case s.crowd() < 1.25:
		k.suspect = 0
		k.limit, k.burst = 2*s.limit, 2*s.limit
		return
	case known && s.share() > 0.5 && s.crowd() > 2:
		k.begin(s, false)
		return
	case s.share() > 0.1 || s.limit >= full:
		if k.suspect++; k.suspect > 1 {
			k.begin(s, !known)
		}
		return
	}
	least := float64(o.Initial)
	if k.calls >= enough {
		least = max(fewest, min(least, float64(time.Second)/max(k.usual, 1)))
	}
	grown := min(2*s.peak+4, s.limit+s.answers, full)
	k.burst = max(k.burst*math.Exp(-seconds/10), grown)
	k.limit = max(k.peak*max(room, 1+queue), k.burst, least)
}

// begin begins a probe.
func (k *knee) begin(s seen, slow bool) {
	k.suspect, k.slow, k.spare = 0, slow || k.unsure || k.calls < enough, 0
	if k.mode == free || k.slow {
		k.total = 1
	}
	if s.spared() {
		// Whole requests are not limited, so there is nothing to learn from a lower limit.
		k.holdAt(s, s.work)
		k.reserve = max(2*k.at, fewest, s.limit-k.limit)
		return
	}
	k.before = s.work
	switch {
	case k.slow:
	case k.mode == holding:
		k.before = k.work
	default:
		k.before = max(s.work, k.work)
	}
	k.mode, k.reserve, k.cut = probing, 0, s.now
	k.limit = max(below*k.before, s.limit/4)
}

// holds is the limit at the knee.
func (k *knee) holds() float64 {
	return k.at*(above+float64(relief)/max(k.usual, float64(relief)/10)) + 1
}

// holdAt begins to hold the limit at a knee.
func (k *knee) holdAt(s seen, at float64) {
	k.mode, k.at, k.work, k.spare = holding, at, at, 0
	k.limit = above*at + 1
	k.probeAt = (s.now + k.offset).Truncate(probeEvery) + probeEvery - k.offset
}

// probed looks at a window of a probe.
func (k *knee) probed(s seen, o *ConcurrencyOptions) {
	if s.refused == 0 { // The load is gone.
		k.mode, k.peak = free, max(k.peak, k.before)
		k.free(s, o)
		return
	}
	if s.work > k.before { // Few answers tell it badly.
		k.before += (s.work - k.before) / 2
	}
	switch {
	case s.peak > math.Round(s.limit):
		k.cut = s.now // Some of the calls from before the cut were in flight.
		return
	case !s.told():
		return
	}
	stays := s.work >= held*k.before
	if stays && (k.slow || s.stretch() > 1.1) && s.limit > float64(o.Min) {
		k.limit, k.cut = 0.6*s.limit, s.now
		return
	}
	if s.now-s.took < k.cut+time.Duration(s.mean) {
		return // The slower ones of the calls after the cut have yet to be answered.
	}
	k.scale = s.stretch()
	switch {
	case k.slow && stays:
		// With one worker or more, no call waits for more than those before it.
		k.scale, k.total = max(min(k.scale, 1), s.stretch()/max(s.limit, 1)), 1
	case k.slow:
		k.total = 1
	case stays || k.scale < others:
		k.scale = min(k.scale, 1/k.total)
		k.total *= k.scale
	default:
		k.total *= k.scale
	}
	k.holdAt(s, max(k.before, s.work)*k.scale)
	if k.unsure = k.slow && stays && k.scale > 1; k.unsure {
		k.probeAt = s.now // The latency is so much at least.
	}
}

// hold is for the time of an overload.
func (k *knee) hold(s seen, o *ConcurrencyOptions) {
	load := s.work / max(1-s.share(), 0.001)
	spare := 0.97*k.at - load
	if s.refused == 0 {
		spare = max(spare, 0.1*k.at)
	}
	k.spare = max(0, k.spare+spare*s.took.Seconds())
	if k.spare > k.at*max(0.25, 2.5*k.usual/1e9) {
		k.mode, k.peak, k.work, k.spare = free, max(k.at, k.peak), k.at, 0
		k.reserve = 0
		k.free(s, o)
		return
	}
	if !s.spared() {
		k.reserve = 0
	} else { // Refusing optional branches is enough.
		k.reserve = max(2*k.at, fewest, 0.9*k.reserve)
	}
	if s.refused == 0 || !s.told() {
		k.at = max(k.at, s.work)
		k.limit = max(k.limit, k.holds())
		return
	}
	k.work += (s.work - k.work) * 0.3
	switch {
	// No call waits for more calls than are in flight: the usual latency is too small.
	case k.work < slowed*k.at && s.first+1 > 0.7*s.limit,
		s.stretch() > s.limit+1 && s.peak <= math.Round(s.limit) && s.told():
		s.work = k.work
		k.begin(s, true)
		return
	case s.now >= k.probeAt && (k.unsure || s.crowd() > 1.25):
		k.begin(s, false)
		return
	case s.work > k.at:
		k.at += (s.work - k.at) * 0.15
	default:
		k.at += (s.work - k.at) * 0.05
	}
	k.limit = k.holds()
	if s.stretch() < 1.25 && s.crowd() < 1.45 {
		k.limit = max(k.limit, 2*s.limit)
	}
}
