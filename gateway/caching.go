package gateway

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/cache"
)

// responseCache is where answers are kept; nil where the configuration switches it
// off, and where calls are only explained. What is kept outlives a reload.
func (s *snapshot) responseCache() (*cache.Cache, error) {
	c := s.cfg.GetCache()
	if c.GetOff() || s.o.explain != nil {
		return nil, nil //nolint:nilnil // Nothing is kept.
	}
	return part(s, "cache", []any{c.GetMaxBytes(), c.GetMaxEntryBytes()}, func(r prometheus.Registerer) (*cache.Cache, func() error, error) {
		kept, err := cache.New(cache.Options{MaxBytes: c.GetMaxBytes(), MaxEntryBytes: c.GetMaxEntryBytes(), Metrics: r})
		return kept, nil, err
	})
}
