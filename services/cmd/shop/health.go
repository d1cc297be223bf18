package main

import (
	"context"
	"time"
)

const (
	healthInterval = 2 * time.Second
	healthTimeout  = time.Second
)

// watchHealth keeps the health of the service, and of the whole process, in
// step with its database. The first check is made before it returns; the rest go
// on until ctx ends, whereupon the channel is closed.
func (p *process) watchHealth(ctx context.Context) <-chan struct{} {
	healthy := true
	check := func() {
		err := p.checkOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		p.door.Serving(err == nil)
		if now := err == nil; now != healthy {
			healthy = now
			p.log.Warn("health changed", "healthy", healthy, "cause", err)
		}
	}
	check()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(healthInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				check()
			}
		}
	}()
	return done
}

func (p *process) checkOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	return p.service.Check(ctx)
}
