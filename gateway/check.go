package gateway

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/config"
	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// Check says what New would refuse of a configuration for these services,
// without opening, making or calling anything: overrides and upstreams of what
// is not there, targets that cannot be parsed. Files that the configuration
// names need not be on the machine that checks it.
func Check(cfg *configv1.Config, opts ...Option) error {
	s := &snapshot{cfg: cfg, o: newOptions(opts)}
	var err error
	if s.catalogue, err = s.readCatalogue(); err == nil {
		_, passErr := s.passes()
		err = errors.Join(s.checkLimits(), passErr)
	}
	errs := []error{err, s.checkUpstreams(), s.checkIdentity()}
	for _, name := range slices.Sorted(maps.Keys(cfg.GetUpstreams())) {
		u := cfg.GetUpstreams()[name]
		for _, target := range targetsOf(u) {
			if err := upstream.CheckTarget(target); err != nil {
				errs = append(errs, fmt.Errorf("upstreams: %s: target: %s", name, strings.TrimPrefix(err.Error(), "target ")))
			}
		}
	}
	return errors.Join(errs...)
}

// targetsOf are those of an upstream, its canaries and its shadow, where they are no
// lists.
func targetsOf(u *configv1.Upstream) []string {
	all := []string{u.GetTarget(), u.GetShadow().GetTarget()}
	for _, c := range u.GetCanaries() {
		all = append(all, c.GetTarget())
	}
	return slices.DeleteFunc(all, func(t string) bool { return t == "" })
}

// checkLimits looks at the classes, and at what rules and credentials name of
// them. Nothing is counted anywhere.
func (s *snapshot) checkLimits() error {
	classes, err := limitClasses(s.cfg.GetLimits())
	if err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	rates := limit.NewMemory(limit.MemoryOptions{MaxKeys: 1})
	l, err := limit.New(limit.Options{Classes: classes, Address: addressRate(s.cfg.GetLimits().GetAddress()), Store: rates, Arrivals: rates})
	if err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	return s.checkClasses(l)
}

// checkIdentity looks at what of auth needs no file and no network.
func (s *snapshot) checkIdentity() error {
	var errs []error
	for i, c := range s.cfg.GetAuth().GetIssuers() {
		m := c.GetClaims()
		for _, path := range append([]string{m.GetSubject(), m.GetTenant()}, m.GetScopes()...) {
			if path == "" {
				continue
			}
			if _, err := auth.CompileClaimPath(path); err != nil {
				errs = append(errs, fmt.Errorf("auth.issuers[%d].claims: %w", i, err))
			}
		}
	}
	if keys := s.cfg.GetAuth().GetApiKeys().GetKeys(); len(keys) > 0 {
		if _, err := auth.NewAPIKeys(auth.APIKeysOptions{Keys: apiKeyList(keys)}); err != nil {
			errs = append(errs, fmt.Errorf("auth.api_keys: %w", err))
		}
	}
	if rules := s.cfg.GetAuth().GetClientCertificates(); len(rules) > 0 {
		if _, err := auth.NewClientCertificates(certificateRules(rules)); err != nil {
			errs = append(errs, fmt.Errorf("auth.client_certificates: %w", err))
		}
	}
	return errors.Join(errs...)
}

// checkUpstreams refuses upstreams of services that the gateway does not offer.
func (s *snapshot) checkUpstreams() error {
	var known []string
	for _, svc := range s.o.services {
		known = append(known, string(svc.Descriptor.FullName()))
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.cfg.GetUpstreams())) {
		if !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("upstreams: %s: %s", name, config.UnknownName("service", name, known)))
		}
	}
	return errors.Join(errs...)
}
