package upstream

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// MetadataShadow tells a service that the call is a copy, whose answer nobody sees.
const MetadataShadow = "x-sluice-shadow"

// DefaultShadowInFlight is how many copies are on their way at once.
const DefaultShadowInFlight = 64

// Shadow is a target that gets copies of unary calls. What it answers is dropped;
// nothing that happens to it reaches a caller.
type Shadow struct {
	// Target is where copies go.
	Target Target
	// Percent of the calls that are sent to the service.
	Percent float64
	// Methods that are copied, by their short names; empty means those that their rules
	// call idempotent.
	Methods []string
	// MaxInFlight bounds the copies on their way; more are not made. 0 means
	// DefaultShadowInFlight.
	MaxInFlight int
}

func (s *Shadow) check() error {
	switch {
	case s.Target == nil:
		return errors.New("it has no target")
	case !(s.Percent > 0 && s.Percent <= 100):
		return errors.New("percent must be above 0, and 100 at most")
	case s.MaxInFlight < 0:
		return errors.New("max_in_flight must not be negative")
	}
	return nil
}

// shadower makes the copies of a service's calls.
type shadower struct {
	to      Target
	percent float64
	running *pool
	ctx     context.Context // of the copies: none of a caller's

	ok, failed, dropped prometheus.Counter
}

func (c *Conn) newShadower(service string, s *Shadow) *shadower {
	most := s.MaxInFlight
	if most == 0 {
		most = DefaultShadowInFlight
	}
	sh := &shadower{
		to: s.Target, percent: s.Percent, ctx: c.draining, running: &pool{most: most},
		ok:      c.metrics.shadow.WithLabelValues(service, "ok"),
		failed:  c.metrics.shadow.WithLabelValues(service, "failed"),
		dropped: c.metrics.shadow.WithLabelValues(service, "dropped"),
	}
	c.pools = append(c.pools, sh.running)
	return sh
}

// copy sends a copy of a call that is about to be sent. It returns at once, and before
// the call: the request's bytes are lent for no longer.
func (s *shadower) copy(r *route, md sent, in *wire.Frame) {
	if s == nil || !drawn(s.percent) {
		return
	}
	if s.ctx.Err() != nil || !s.running.join() {
		s.dropped.Inc()
		return
	}
	md.more = append(md.more[:len(md.more):len(md.more)], MetadataShadow, "1")
	go s.send(r, md, ownBytes(in))
}

func (s *shadower) send(r *route, md sent, in *wire.Frame) {
	defer s.running.leave()
	ctx, cancel := context.WithTimeout(s.ctx, r.method.Rule.Deadline)
	defer cancel()
	p := newDestination(r.method, s.to, "", nil)
	var a Answer
	err := r.invoke(ctx, &p, md, in, &a)
	a.Message.Free()
	if err != nil {
		s.failed.Inc()
		return
	}
	s.ok.Inc()
}

// ownBytes is a request in memory of its own.
func ownBytes(in *wire.Frame) *wire.Frame { return &wire.Frame{Data: bytes.Clone(in.Data)} }

// pool counts goroutines, to bound them and to wait for them.
type pool struct {
	most int

	mu    sync.Mutex
	n     int
	ended bool
	empty chan struct{} // closed when the last leaves after end
}

func (c *pool) join() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.n >= c.most {
		return false
	}
	c.n++
	return true
}

func (c *pool) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 && c.ended {
		close(c.empty)
	}
}

// end lets nobody join any more, and waits for those who have.
func (c *pool) end() {
	c.mu.Lock()
	if !c.ended {
		c.ended, c.empty = true, make(chan struct{})
		if c.n == 0 {
			close(c.empty)
		}
	}
	c.mu.Unlock()
	<-c.empty
}

// Close ends what calls have left behind, open streams and copies for shadows, and
// waits for the copies. Targets are not closed: they are who made them's.
func (c *Conn) Close() {
	c.endStreams()
	for _, p := range c.pools {
		p.end()
	}
}
