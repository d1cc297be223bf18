package resilience

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// breakerLike is a breaker that the table of steps can drive: ours, or a library's.
type breakerLike interface {
	enter(p Priority) (done func(Outcome), ok bool)
	state() string
}

type breakerCase struct {
	name              string
	probes, successes int
	// steps are of: ok|fail|late|cancel N (N whole calls), start X (a call begins), refused
	// (none may), X ok|fail|late|cancel (it ends), wait D, is STATE.
	steps string
}

// breakerCases are what a breaker has to do; window 10 s, 4 requests at least, 50 %,
// open for 5 s.
var breakerCases = []breakerCase{
	{"half of enough calls fail", 2, 2, "ok 2; fail 2; is open; refused"},
	{"too few calls", 2, 2, "fail 3; is closed; ok 1"},
	{"fewer than half", 2, 2, "ok 5; fail 4; is closed"},
	{"overload is a failure", 2, 2, "ok 2; late 2; is open"},
	{"old failures leave the window", 2, 2, "fail 3; wait 11s; fail 1; is closed; ok 1; fail 2; is open"},
	{"failures leave one tenth at a time", 2, 2, "fail 2; wait 6s; fail 1; wait 6s; ok 2; is closed"},
	{"open until its time", 2, 2, "fail 4; wait 4900ms; refused; wait 200ms; start a; is half_open"},
	{"probes are capped", 2, 2, "fail 4; wait 5100ms; start a; start b; refused"},
	{"successes close", 2, 2, "fail 4; wait 5100ms; start a; a ok; is half_open; start b; b ok; is closed; ok 5"},
	{"more successes than probes", 1, 3, "fail 4; wait 5100ms; start a; refused; a ok; start b; refused; b ok; start c; c ok; is closed"},
	{"more probes than successes", 3, 1, "fail 4; wait 5100ms; start a; start b; start c; refused; b ok; is closed"},
	{"a failed probe opens anew", 2, 2, "fail 4; wait 5100ms; start a; start b; a ok; b fail; is open; refused; wait 4900ms; refused; wait 200ms; start c; is half_open"},
	{"after closing the count is new", 2, 2, "fail 4; wait 5100ms; start a; a ok; start b; b ok; is closed; fail 3; is closed; fail 1; is open"},
	{"callers that went away count for nobody", 2, 2, "fail 3; cancel 40; is closed; fail 1; is open"},
	{"many of them hide no failure", 2, 2, "cancel 40; fail 4; is open"},
	{"a probe that went away gives its place back", 2, 2, "fail 4; wait 5100ms; start a; start b; a cancel; b cancel; is half_open; start c; start d; refused; c ok; d ok; is closed"},
	{"a lost probe does not wedge", 2, 2, "fail 4; wait 5100ms; start a; start b; refused; wait 2m; start c; c ok; start d; d ok; is closed"},
	{"a late failure of before is not a probe's", 2, 2, "start old; fail 4; wait 5100ms; start a; old fail; is half_open; a ok; start b; b ok; is closed"},
	{"a late success of before is not a probe's", 2, 2, "start x; start y; fail 4; wait 5100ms; start a; x ok; y ok; is half_open"},
	{"late results do not add probes", 2, 2, "start x; start y; fail 4; wait 5100ms; start a; start b; refused; x ok; refused; y cancel; refused"},
	{"a late failure of before does not open again", 2, 2, "start x; start y; start z; start w; fail 4; wait 5100ms; start a; a ok; start b; b ok; is closed; x fail; y fail; z fail; w fail; is closed; fail 1; is closed"},
	{"a late failure does not keep it open longer", 2, 2, "start x; fail 4; wait 4s; x fail; wait 1100ms; start a; is half_open"},
}

// run drives a breaker through the steps; it returns what was not as it should be.
func (c breakerCase) run(b breakerLike, wait func(time.Duration)) error {
	outcomes := map[string]Outcome{"ok": Success, "fail": Failure, "late": Overload, "cancel": Ignored}
	started := map[string]func(Outcome){}
	for i, step := range strings.Split(c.steps, "; ") {
		verb, arg, _ := strings.Cut(step, " ")
		wrong := func(format string, args ...any) error {
			return fmt.Errorf("step %d, %q: %s (it is %s)", i+1, step, fmt.Sprintf(format, args...), b.state())
		}
		out, whole := outcomes[verb]
		switch {
		case whole:
			var n int
			if _, err := fmt.Sscan(arg, &n); err != nil {
				return wrong("%v", err)
			}
			for range n {
				done, ok := b.enter(Whole)
				if !ok {
					return wrong("refused")
				}
				done(out)
			}
		case verb == "start":
			done, ok := b.enter(Whole)
			if !ok {
				return wrong("refused")
			}
			started[arg] = done
		case verb == "refused":
			if _, ok := b.enter(Whole); ok {
				return wrong("let through")
			}
		case verb == "wait":
			d, err := time.ParseDuration(arg)
			if err != nil {
				return wrong("%v", err)
			}
			wait(d)
		case verb == "is":
			if got := b.state(); got != arg {
				return wrong("not so")
			}
		case started[verb] != nil:
			started[verb](outcomes[arg])
		default:
			return wrong("no such step")
		}
	}
	return nil
}

func (o *ours) state() string { return o.service.States()[0].State }

func TestBreaker(t *testing.T) {
	for _, c := range breakerCases {
		t.Run(c.name, func(t *testing.T) {
			g, at := newOurs(t, Options{Breaker: BreakerOptions{MinRequests: 4, OpenFor: 5 * time.Second, Probes: c.probes, Successes: c.successes}})
			if err := c.run(g, at.advance); err != nil {
				t.Error(err)
			}
			if n := g.service.limiter.inFlight.Load(); n < 0 {
				t.Errorf("%d in flight", n)
			}
		})
	}
}
