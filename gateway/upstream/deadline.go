package upstream

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/gateway/schema"
)

// grpc-go makes a context for every call, and can bound it in time by itself. A
// context of ours around it, with a timer, costs as much again: seven allocations,
// and its place among the children of the request's. So the deadlines of rules are
// part of the service config that a connection starts with.

// bounder is a Target that ends calls of some methods by itself.
type bounder interface {
	// Bound is after what time; 0 means never.
	Bound(method string) time.Duration
}

// Deadlines are those of a service's unary methods, by full name, for RemoteOptions.
func Deadlines(c *schema.Catalogue, service string) map[string]time.Duration {
	all := map[string]time.Duration{}
	for _, m := range c.Methods() {
		if m.Service == service && !m.Streaming() {
			all[m.FullName] = m.Rule.Deadline
		}
	}
	return all
}

// methodConfig is an entry of a service config.
type methodConfig struct {
	Name    []methodName `json:"name"`
	Timeout string       `json:"timeout"`
}

type methodName struct {
	Service string `json:"service"`
	Method  string `json:"method"`
}

func methodConfigs(deadlines map[string]time.Duration) []methodConfig {
	var out []methodConfig
	for full, d := range deadlines {
		service, method, _ := strings.Cut(strings.TrimPrefix(full, "/"), "/")
		out = append(out, methodConfig{[]methodName{{service, method}}, fmt.Sprintf("%d.%09ds", d/time.Second, d%time.Second)})
	}
	return out
}

// Bound implements bounder.
func (r *remote) Bound(method string) time.Duration { return r.deadlines[method] }

// ending is how calls of a route's own target end.
type ending struct {
	// bounded says that the target ends calls at the rule's deadline.
	bounded bool
	// reached says that a call was answered. Before its target is first resolved,
	// grpc-go waits without the bound.
	reached atomic.Bool
}

// noteEnding notes how the route's calls end, once all else of the route is known: what may
// go elsewhere is bounded by a context. So are attempts after the first.
func (r *route) noteEnding() {
	b, ok := r.target.(bounder)
	r.ending.bounded = ok && !r.method.Streaming() && b.Bound(r.method.FullName) == r.method.Rule.Deadline && r.traffic.straight()
}

// straight says that every call goes to the service itself, and at once.
func (t *traffic) straight() bool { return t == nil || len(t.canaries) == 0 && len(t.faults) == 0 }

// within bounds a unary call in time. Where the caller's own deadline comes first,
// or the target sees to it, it needs no timer: a call that has been answered leaves
// nothing to cancel.
func (r *route) within(ctx context.Context, start time.Time, most time.Duration) (context.Context, context.CancelFunc) {
	end := start.Add(most)
	if callers, ok := ctx.Deadline(); ok && !callers.After(end) {
		return ctx, func() {}
	}
	if r.ending.bounded && most == r.method.Rule.Deadline && r.ending.reached.Load() {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, end)
}
