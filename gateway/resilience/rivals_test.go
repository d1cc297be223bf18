package resilience

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// The limits of the field, small, as they are published: for the table of
// docs/decisions/0021-resilience.md only. Those that have calls wait (CoDel, adaptive LIFO,
// Cinnamon's rejecter) are not among them: the gateway must not hold calls back.

// rival is a limit that learns from single answers.
type rival struct {
	now      func() time.Time
	bound    float64
	inFlight int
	answer   func(r *rival, took time.Duration, dropped bool)

	began          time.Time // of its window
	sum            time.Duration
	all            []time.Duration
	noLoad, long   float64
	n, probeAt     int
	probing        bool
	before         float64
	probed         time.Time
	passed, fasted []float64 // of windows
}

func (r *rival) limit() int { return int(r.bound) }

func (r *rival) enter(Priority) (func(Outcome), bool) {
	if r.inFlight >= max(int(r.bound), 1) {
		return nil, false
	}
	r.inFlight++
	at := r.now()
	return func(o Outcome) {
		if took := r.now().Sub(at); o == Success || o == Overload {
			r.answer(r, took, o == Overload)
		}
		r.inFlight--
	}, true
}

// aimd is AIMDLimit of Netflix's concurrency-limits: less by a tenth where an answer takes
// more than a time, else one more.
func aimd(r *rival, took time.Duration, dropped bool) {
	switch {
	case dropped || took > deadline/2:
		r.bound = max(r.bound*0.9, 1)
	case 2*r.inFlight >= int(r.bound):
		r.bound = min(r.bound+1, 1000)
	}
}

// vegas is VegasLimit: the queue is limit x (1 - least / latency).
func vegas(r *rival, took time.Duration, dropped bool) {
	if r.n++; r.n >= int(30*r.bound)+r.probeAt || r.noLoad == 0 || float64(took) < r.noLoad {
		if r.n >= int(30*r.bound)+r.probeAt {
			r.n = 0
		}
		r.noLoad = float64(took)
		return
	}
	step := max(math.Log10(r.bound), 1)
	queue := math.Ceil(r.bound * (1 - r.noLoad/float64(took)))
	switch {
	case dropped:
		r.bound -= step
	case 2*r.inFlight < int(r.bound):
	case queue <= step:
		r.bound += 6 * step
	case queue < 3*step:
		r.bound += step
	case queue > 6*step:
		r.bound -= step
	}
	r.bound = min(max(r.bound, 1), 1000)
}

// window collects answers of a time, and says when it is over.
func (r *rival) window(took time.Duration, lasts time.Duration) bool {
	if r.began.IsZero() {
		r.began = r.now()
	}
	r.sum, r.all = r.sum+took, append(r.all, took)
	return r.now().Sub(r.began) >= lasts && len(r.all) >= 10
}

func (r *rival) next() { r.began, r.sum, r.all = r.now(), 0, nil }

// gradient2 is Gradient2Limit in a WindowedLimit of a second.
func gradient2(r *rival, took time.Duration, _ bool) {
	if !r.window(took, time.Second) {
		return
	}
	short := float64(r.sum) / float64(len(r.all))
	r.next()
	if r.n++; r.n <= 10 {
		r.long += (short - r.long) / float64(r.n)
	} else {
		r.long += (short - r.long) * 2 / 601
	}
	if r.long/short > 2 {
		r.long *= 0.95
	}
	if 2*r.inFlight < int(r.bound) {
		return
	}
	gradient := min(max(1.5*r.long/short, 0.5), 1)
	r.bound = min(max(r.bound*0.8+(r.bound*gradient+4)*0.2, 20), 1000)
}

// envoy is Envoy's gradient controller: each minute it has 3 in flight until 50 answers tell
// the least latency (their p90, and a quarter more).
func envoy(r *rival, took time.Duration, _ bool) {
	switch {
	case !r.probing && (r.probed.IsZero() || r.now().Sub(r.probed) > time.Minute):
		r.probing, r.before, r.bound = true, r.bound, 3
		r.next()
		return
	case r.probing:
		r.all = append(r.all, took)
		if len(r.all) < 50 {
			return
		}
		r.noLoad, r.bound, r.probing, r.probed = r.p90()*1.25, r.before, false, r.now()
		r.next()
		return
	}
	if !r.window(took, 100*time.Millisecond) {
		return
	}
	gradient := min(max(r.noLoad/r.p90(), 0.5), 2)
	r.next()
	r.bound = min(max(r.bound*gradient+math.Sqrt(r.bound*gradient), 3), 1000)
}

func (r *rival) p90() float64 {
	slices.SortFunc(r.all, func(a, b time.Duration) int { return cmp.Compare(a, b) })
	return float64(r.all[len(r.all)*9/10])
}

// bbr is Kratos' limit: the most answers of a tenth of a second in the last 10 s, times the
// least mean latency of one. It asks the processor whether there is an overload at all; of a
// service elsewhere nobody knows, so here it always limits.
func bbr(r *rival, took time.Duration, _ bool) {
	if !r.window(took, 100*time.Millisecond) {
		return
	}
	seconds := r.now().Sub(r.began).Seconds()
	r.passed = append(r.passed, float64(len(r.all))/seconds)
	r.fasted = append(r.fasted, r.sum.Seconds()/float64(len(r.all)))
	r.passed, r.fasted = r.passed[max(len(r.passed)-100, 0):], r.fasted[max(len(r.fasted)-100, 0):]
	r.next()
	r.bound = max(math.Floor(slices.Max(r.passed)*slices.Min(r.fasted)+0.5), 1)
}

var rivals = []struct {
	name    string
	initial float64
	answer  func(*rival, time.Duration, bool)
}{
	{"AIMD", 20, aimd},
	{"Vegas", 20, vegas},
	{"Gradient2", 20, gradient2},
	{"Envoy", 50, envoy},
	{"Kratos BBR", 100, bbr},
}
