package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/balance"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// recentErrors is how many failures operators can look back at.
const recentErrors = 100

// state is how the gateway is, for operators.
func (g *Gateway) state() admin.State {
	h := g.current.take() // What it names must not be closed meanwhile.
	defer h.Release()
	s := h.of.snapshot
	out := admin.State{
		Version: builtFrom(), Started: g.started, Now: time.Now(), LogLevel: strings.ToLower(g.LogLevel().String()),
		Config: g.configState(), Services: s.state(),
	}
	if err := g.drain.ready(); err != nil {
		out.NotReady = err.Error()
	}
	if s.cache != nil {
		c := s.cache.Stats()
		out.Cache = &admin.CacheState{Entries: c.Entries, Bytes: c.Bytes, MaxBytes: c.MaxBytes}
	}
	for _, f := range g.recent.Last() {
		out.Errors = append(out.Errors, admin.RecentError{Time: f.Time, RequestID: f.ID, Route: f.Route, Code: f.Code, Upstream: f.Upstream, Variant: f.Variant, Why: f.Why})
	}
	return out
}

func (g *Gateway) configState() admin.ConfigState {
	status := g.Status()
	out := admin.ConfigState{Source: status.Source, Digest: status.Digest, Loaded: status.LoadedAt, NeedsRestart: status.NeedsRestart, Reloads: int(g.reload.count.Load())}
	if r := status.LastReload; r != nil && r.Error != "" {
		out.LastError, out.LastErrorAt = r.Error, r.At
	}
	return out
}

// builtFrom is what the program was built from.
func builtFrom() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return info.Main.Version + " " + s.Value[:min(12, len(s.Value))]
		}
	}
	return info.Main.Version
}

// state lists what the snapshot calls: RPC services and plain HTTP ones, with their
// canaries.
func (s *snapshot) state() []admin.ServiceState {
	var out []admin.ServiceState
	at := func(name, variant string) *admin.ServiceState {
		for i := range out {
			if out[i].Name == name && out[i].Variant == variant {
				return &out[i]
			}
		}
		out = append(out, admin.ServiceState{Name: name, Variant: variant, Breakers: []admin.BreakerState{}, Backends: []admin.BackendState{}})
		return &out[len(out)-1]
	}
	for _, c := range s.called {
		e := at(c.service, c.variant)
		e.Target = c.target.String()
		if b, ok := c.target.(upstream.Balanced); ok {
			e.Backends = backendStates(b.Backends())
		}
	}
	for name, svc := range s.plain {
		for _, p := range svc.Places() {
			e := at(name, p.Variant)
			e.Target, e.Backends = p.Target, backendStates(p.Backends)
		}
	}
	for _, k := range s.services {
		e := at(k.name, k.variant)
		for _, b := range k.States() {
			e.InFlight, e.Limit = b.InFlight, b.Limit
			e.Breakers = append(e.Breakers, admin.BreakerState{Class: b.Class, State: b.State, Forced: b.Forced, Since: b.Since, Requests: b.Requests, Failures: b.Failures})
		}
	}
	slices.SortStableFunc(out, func(a, b admin.ServiceState) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Variant, b.Variant))
	})
	return out
}

func backendStates(from []balance.BackendState) []admin.BackendState {
	out := make([]admin.BackendState, 0, len(from))
	for _, b := range from {
		out = append(out, admin.BackendState{Addr: b.Addr, Weight: b.Weight, State: b.State, InFlight: b.InFlight, Ejections: b.Ejections, LastError: b.LastError})
	}
	return out
}

// reloadAsked is Reload on an operator's word.
func (g *Gateway) reloadAsked() error { return g.Reload(context.Background()) }

// actions are what operators may do while all runs.
func (g *Gateway) actions() admin.Actions {
	a := admin.Actions{SetLogLevel: g.setLogLevel, ForceBreaker: g.forceBreaker, PurgeCache: g.purgeCache}
	if g.o.source != nil {
		a.Reload = g.reloadAsked
	}
	return a
}

func (g *Gateway) setLogLevel(name string) error {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, name) {
		return fmt.Errorf("level is debug, info, warn or error, not %q", name)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return err
	}
	g.SetLogLevel(level)
	g.log.Warn("an operator set the log's level", "level", name)
	return nil
}

func (g *Gateway) forceBreaker(service, variant, class, state string) error {
	h := g.current.take()
	defer h.Release()
	for _, k := range h.of.snapshot.services {
		if k.name != service || k.variant != variant {
			continue
		}
		if err := k.Force(class, state); err != nil {
			return err
		}
		g.log.Warn("an operator set a breaker", "service", service, "variant", variant, "class", class, "state", state)
		return nil
	}
	return fmt.Errorf("no service %q, variant %q; /state lists them", service, variant)
}

func (g *Gateway) purgeCache(method, tag string) (int, error) {
	h := g.current.take()
	defer h.Release()
	c := h.of.snapshot.cache
	switch {
	case c == nil:
		return 0, errors.New("no cache: the configuration switches it off")
	case method != "" && tag != "":
		return 0, errors.New("name a method or a tag, not both")
	case method != "":
		return c.InvalidateRoute("/" + strings.TrimPrefix(method, "/")), nil
	case tag != "":
		return c.Invalidate(tag), nil
	}
	return c.Purge(), nil
}
