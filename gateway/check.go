package gateway

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// Check says what New would refuse of a configuration for these services,
// without opening, making or calling anything: overrides and upstreams of what
// is not there, targets that cannot be parsed. Files that the configuration
// names need not be on the machine that checks it.
func Check(cfg *configv1.Config, opts ...Option) error {
	g := &Gateway{cfg: cfg, o: newOptions(opts)}
	_, err := g.rules()
	errs := []error{err, g.checkUpstreams()}
	for _, name := range slices.Sorted(maps.Keys(cfg.GetUpstreams())) {
		if err := upstream.CheckTarget(cfg.GetUpstreams()[name].GetTarget()); err != nil {
			errs = append(errs, fmt.Errorf("upstreams: %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// checkUpstreams refuses upstreams of services that the gateway does not offer.
func (g *Gateway) checkUpstreams() error {
	known := map[string]bool{}
	for _, s := range g.o.services {
		known[string(s.Descriptor.FullName())] = true
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(g.cfg.GetUpstreams())) {
		if !known[name] {
			errs = append(errs, fmt.Errorf("upstreams: %s is no service of this gateway", name))
		}
	}
	return errors.Join(errs...)
}
