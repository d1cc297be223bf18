package resilience

import (
	"sync/atomic"
	"time"
)

// Place is a permit of an attempt that may wait for its caller, who is still sending or only
// listens. Such a wait is no work of the service's: while it lasts the attempt is not among the
// calls in flight, or callers who send slowly would make a service look overloaded. The breaker
// has the attempt until it is Done. A Place is safe for concurrent use.
type Place struct {
	permit Permit
	state  atomic.Uint32
	at     atomic.Int64 // when it was last the service's turn
}

// The states of a place.
const (
	inFlight  uint32 = iota
	forCaller        // the caller is waited for
	ended
)

// Place returns the permit as one that can leave the calls in flight. Only the place is to be Done.
func (p Permit) Place() *Place {
	l := &Place{permit: p}
	l.at.Store(int64(p.at))
	return l
}

// Leave says that the caller is waited for.
func (l *Place) Leave() {
	if l.permit.class != nil && l.state.CompareAndSwap(inFlight, forCaller) {
		l.permit.class.service.limiter.leave()
	}
}

// Return says that it is the service's turn again, and what it takes counts from now. It is
// refused never: the service has the call already.
func (l *Place) Return() {
	if l.permit.class == nil || l.state.Load() != forCaller {
		return
	}
	s := l.permit.class.service
	l.at.Store(int64(s.now()))
	s.limiter.inFlight.Add(1)
	if !l.state.CompareAndSwap(forCaller, inFlight) { // It ended meanwhile.
		s.limiter.leave()
	}
}

// Done tells what came of the attempt; the first word on it counts.
func (l *Place) Done(out Outcome) {
	was := l.state.Swap(ended)
	if was == ended {
		return
	}
	p := l.permit
	p.at, p.waits = time.Duration(l.at.Load()), was == forCaller
	p.Done(out)
}
