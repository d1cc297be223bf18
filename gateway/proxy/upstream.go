package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/sluice-gateway/sluice/gateway/balance"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Service is an upstream that is open, with its variants: connections, and what is
// known of backends. Safe for concurrent use.
type Service struct {
	name     string
	host     string
	userID   bool
	assert   bool
	main     *target
	canaries []canary
	shadow   *shadow
}

type canary struct {
	*target
	percent   float64
	byRequest bool
	match     []CanaryMatch
}

// Open opens an upstream: of the options it needs those about targets and the logger.
func Open(name string, u Upstream, o Options) (_ *Service, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	x := &Service{name: name, host: u.Host, userID: u.UserID, assert: !u.NoAssertion}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.Close())
		}
	}()
	to := targetOptions{upstream: name, o: &o, policy: u.Policy, slowStart: u.SlowStart, outlier: u.Outlier, health: u.Health, host: u.Host, idle: u.IdleTimeout}
	if x.main, err = openTarget(u.Target, to); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, c := range u.Canaries {
		if c.Name == "" || c.Name == shadowVariant || seen[c.Name] {
			return nil, fmt.Errorf("canary %q: names are stated, unlike each other, and not %q", c.Name, shadowVariant)
		}
		seen[c.Name] = true
		to.variant = c.Name
		t, err := openTarget(c.Target, to)
		if err != nil {
			return nil, fmt.Errorf("canary %s: %w", c.Name, err)
		}
		x.canaries = append(x.canaries, canary{t, c.Percent, c.ByRequest, c.Match})
	}
	if u.Shadow != nil {
		to.variant = shadowVariant
		t, err := openTarget(u.Shadow.Target, to)
		if err != nil {
			return nil, fmt.Errorf("shadow: %w", err)
		}
		n := u.Shadow.MaxInFlight
		if n <= 0 {
			n = 64
		}
		x.shadow = &shadow{target: t, percent: u.Shadow.Percent, slots: make(chan struct{}, n)}
	}
	return x, nil
}

// users makes the breaker of a route's class known before the first request.
func (s *Service) users(m *policy.Method) {
	methodOf(s.main.service, m)
	for _, c := range s.canaries {
		methodOf(c.service, m)
	}
}

// choose says where a request goes.
func (s *Service) choose(r *http.Request, call *policy.Call) *target {
	for i := range s.canaries {
		if c := &s.canaries[i]; c.takes(r, call) {
			return c.target
		}
	}
	return s.main
}

func (c *canary) takes(r *http.Request, call *policy.Call) bool {
	for i := range c.match {
		if c.match[i].holds(r) {
			return true
		}
	}
	switch {
	case c.percent <= 0:
		return false
	case c.byRequest:
		return rand.Float64()*100 < c.percent //nolint:gosec // Chance, not secrecy.
	}
	return c.share(call) < c.percent
}

// share is a number from 0 to 100 that a caller always has for this canary: of its
// account, or of its address where it has none.
func (c *canary) share(call *policy.Call) float64 {
	h := xxhash.New()
	_, _ = h.WriteString(c.variant)
	_, _ = h.Write([]byte{0})
	if p := call.Principal; p != nil && p.Authenticated() {
		_, _ = h.WriteString(p.Issuer + "\x00" + p.Account())
	} else {
		a := call.Client.As16()
		_, _ = h.Write(a[:])
	}
	return float64(h.Sum64()>>11) / (1 << 53) * 100
}

func (m *CanaryMatch) holds(r *http.Request) bool {
	if m.Cookie != "" {
		for _, c := range r.CookiesNamed(m.Cookie) {
			if m.Value == "" || c.Value == m.Value {
				return true
			}
		}
		return false
	}
	for _, v := range r.Header[textproto.CanonicalMIMEHeaderKey(m.Header)] {
		if m.Value == "" || v == m.Value {
			return true
		}
	}
	return false
}

// Close ends its connections. Requests must have ended.
func (s *Service) Close() error {
	var errs []error
	if s.shadow != nil {
		s.shadow.copies.Wait()
		errs = append(errs, s.shadow.target.close())
	}
	for _, c := range s.canaries {
		errs = append(errs, c.target.close())
	}
	if s.main != nil {
		errs = append(errs, s.main.close())
	}
	return errors.Join(errs...)
}

// shadowVariant is the name of the shadow in metrics.
const shadowVariant = "shadow"

// maxShadowBytes of an answer are read, so that the connection can be used again.
const maxShadowBytes = 1 << 20

// headerShadow tells a service that the request is a copy, whose answer nobody sees.
const headerShadow = "X-Sluice-Shadow"

// shadow gets copies of requests that have no body, and that may come twice: it may
// share its database with the service. Nothing of it reaches a caller.
type shadow struct {
	target  *target
	percent float64
	slots   chan struct{}
	copies  sync.WaitGroup
}

// send sends a copy, where there is room for one.
func (s *shadow) send(out *http.Request, m *policy.Method, deadline time.Duration, seen Observer) {
	if rand.Float64()*100 >= s.percent { //nolint:gosec // Chance, not secrecy.
		return
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(out.Context()), deadline)
	r := out.Clone(ctx)
	r.Header[headerShadow] = []string{"1"}
	s.copies.Go(func() {
		defer func() { cancel(); <-s.slots }()
		b := s.target.group.Pick(nil)
		if b == nil {
			return
		}
		start := time.Now()
		r.URL.Scheme, r.URL.Host = s.target.scheme, b.Conn.authority()
		res, err := b.Conn.pool.RoundTrip(r)
		b.Done((&Request{}).outcome(ctx, res, err))
		code := codeOf(http.StatusBadGateway)
		if err == nil {
			code = codeOf(res.StatusCode)
			_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxShadowBytes))
			_ = res.Body.Close()
		}
		if seen != nil {
			seen.UpstreamDone(m, s.target.name, code, time.Since(start), nil)
		}
	})
}

// Place is where requests of a service go, for operators to read: the service itself,
// or a canary of it.
type Place struct {
	// Variant is the canary's name; empty for the service itself.
	Variant  string
	Target   string
	Backends []balance.BackendState
}

// Places lists the service and its canaries.
func (s *Service) Places() []Place {
	out := []Place{{Target: s.main.name, Backends: s.main.group.Backends()}}
	for _, c := range s.canaries {
		out = append(out, Place{Variant: c.variant, Target: c.name, Backends: c.group.Backends()})
	}
	return out
}
