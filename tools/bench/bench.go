package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"
)

// bench is one invocation: it brings up the processes that a mode needs.
type bench struct {
	s     settings
	lab   *lab
	spans *sink
	out   io.Writer

	backend *process
	running map[string]*process // by name
}

// build compiles programs and starts the backend.
func (b *bench) build(ctx context.Context, programs ...string) (err error) {
	slices.Sort(programs)
	if err := b.lab.build(ctx, append(slices.Compact(programs), "backend")...); err != nil {
		return err
	}
	b.running = map[string]*process{}
	b.backend, err = b.lab.startBackend(ctx)
	return err
}

// start starts a gateway, once for each name.
func (b *bench) start(ctx context.Context, program, name string) (p *process, err error) {
	if p := b.running[name]; p != nil {
		return p, nil
	}
	if program == "sluice" {
		p, err = b.lab.startSluice(ctx, b.s, b.backend.addr, b.spans)
		if err == nil {
			err = verifyChain(ctx, p, b.s.accessLog)
		}
	} else {
		p, err = b.lab.startPeer(ctx, program, name, b.backend.addr)
	}
	b.running[name] = p
	return p, err
}

// role is a process's part in a comparison.
type role struct{ program, name string }

// roles are who is compared over a work: what is measured, what it is held
// against, and then others.
func (s settings) roles(w *work) []role {
	switch {
	case w.rpc != "" && s.gateway == "plain":
		return []role{{"proxy", "proxy (again)"}, {"proxy", "proxy"}}
	case w.rpc != "":
		return []role{{"edge", "edge"}, {"proxy", "proxy"}}
	case s.gateway == "plain":
		return []role{{"plain", "plain (again)"}, {"plain", "plain"}, {"floor", "floor"}}
	}
	return []role{{"sluice", "sluice"}, {"plain", "plain"}, {"floor", "floor"}}
}

// programs are those of all works.
func (s settings) programs() (out []string) {
	for _, w := range s.works {
		for _, r := range s.roles(w) {
			out = append(out, r.program)
		}
	}
	return out
}

func (b *bench) peers(ctx context.Context, w *work) ([]*process, error) {
	var out []*process
	for _, r := range b.s.roles(w) {
		p, err := b.start(ctx, r.program, r.name)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	// The same request to all, a token that nobody else reads included.
	for _, p := range out[1:] {
		if p.token = out[0].token; p.token == "" {
			p.token = "none"
		}
	}
	return out, nil
}

func (b *bench) compare(ctx context.Context) error {
	s := b.s
	r := &result{When: time.Now().UTC(), Command: s.command(), Machine: thisMachine(ctx), Conns: s.conns, Rounds: s.rounds, Duration: s.duration}
	if err := b.build(ctx, s.programs()...); err != nil {
		return err
	}
	for _, w := range s.works {
		peers, err := b.peers(ctx, w)
		if err != nil {
			return err
		}
		if err := verify(ctx, w, peers...); err != nil {
			return err
		}
		one, err := comparison{s: s, out: b.out}.work(ctx, w, peers)
		if err != nil {
			return err
		}
		r.Works = append(r.Works, one)
	}
	if err := b.traced(ctx); err != nil {
		return err
	}
	r.Spans = b.spans.spans.Load()
	if s.all && s.gateway == "sluice" {
		var err error
		if r.Routing, err = measureRouting(ctx); err != nil {
			return err
		}
	}
	err := r.print(b.out)
	if s.jsonFile != "" {
		err = errors.Join(err, writeJSON(s.jsonFile, r))
	}
	if s.out != "" {
		err = errors.Join(err, r.save(s.out))
	}
	return err
}

// traced makes sure that Sluice has sent spans, if it has run: they go out some
// seconds later, in batches.
func (b *bench) traced(ctx context.Context) error {
	if b.running["sluice"] == nil {
		return nil
	}
	for range 100 {
		if b.spans.spans.Load() > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.New("sluice has sent no span: tracing was not on")
}

// subject starts what a soak is of.
func (b *bench) subject(ctx context.Context) (*process, error) {
	if err := b.build(ctx, b.s.gateway); err != nil {
		return nil, err
	}
	return b.start(ctx, b.s.gateway, b.s.gateway)
}

func (b *bench) soak(ctx context.Context) error {
	g, err := b.subject(ctx)
	if err != nil {
		return err
	}
	return soak(ctx, b.s, g, b.out)
}

func (b *bench) mixed(ctx context.Context) error {
	g, err := b.subject(ctx)
	if err != nil {
		return err
	}
	r, err := mixed(ctx, b.s, g, b.out)
	if err != nil {
		return err
	}
	if err := b.traced(ctx); err != nil {
		return err
	}
	r.Spans = b.spans.spans.Load()
	if b.s.jsonFile != "" {
		err = writeJSON(b.s.jsonFile, r)
	}
	if b.s.out != "" {
		err = errors.Join(err, r.save(b.s.out))
	}
	if r.Verdict != levelVerdict {
		err = errors.Join(err, errors.New(r.Verdict))
	}
	return err
}
