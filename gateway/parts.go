package gateway

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// parts are what outlives snapshots: connections, databases of embedded services,
// key sets, counts of limits, caches. Each is known by its kind and by what it was
// built from. A snapshot that asks for what is there gets the same instance, with
// all that it has learned; what no snapshot uses any more is closed.
type parts struct {
	mu  sync.Mutex
	all map[partKey]*sharedPart
}

type partKey struct {
	kind string
	of   [sha256.Size]byte
}

// sharedPart is one of parts.
type sharedPart struct {
	key   partKey
	value any
	close func() error
	users int
	// metrics are the part's own: /metrics has those of the current snapshot's
	// parts, so that an old and a new part of one kind do not meet there.
	metrics *prometheus.Registry
	closed  chan struct{} // closed when the part is
}

func newParts() *parts { return &parts{all: map[partKey]*sharedPart{}} }

// fingerprint says what a part was built from. Two that differ in anything have
// different ones.
func fingerprint(from ...any) [sha256.Size]byte {
	h := sha256.New()
	for _, v := range from {
		if m, ok := v.(proto.Message); ok {
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if err != nil { // No message of the configuration fails: it was read from text.
				b = []byte(err.Error())
			}
			v = b
		}
		text := fmt.Sprintf("%T %q", v, fmt.Sprint(v))
		_, _ = fmt.Fprintf(h, "%d %s", len(text), text) // Into a hash.
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// part returns what open makes of what from says, or what an earlier snapshot made
// of the same. It lives until no snapshot uses it. open gets a registry for the
// part's metrics; a nil close means that there is nothing to release. Snapshots are
// built one after another.
func part[T any](s *snapshot, kind string, from []any, open func(r prometheus.Registerer) (T, func() error, error)) (T, error) {
	key := partKey{kind, fingerprint(from...)}
	all := s.gateway.parts
	for {
		all.mu.Lock()
		p := all.all[key]
		if p == nil {
			all.mu.Unlock()
			break
		}
		if p.users > 0 {
			defer all.mu.Unlock()
			s.use(p)
			return p.value.(T), nil
		}
		all.mu.Unlock()
		<-p.closed // Two databases on one file, or two watchers, would be in each other's way.
	}
	p := &sharedPart{key: key, metrics: prometheus.NewRegistry(), closed: make(chan struct{})}
	v, closer, err := open(p.metrics)
	if err != nil {
		return v, err
	}
	p.value, p.close = v, closer
	all.mu.Lock()
	defer all.mu.Unlock()
	all.all[key] = p
	s.use(p)
	return v, nil
}

// use is called with the lock of parts held.
func (s *snapshot) use(p *sharedPart) {
	for _, have := range s.parts {
		if have == p { // Asked for twice: one user.
			return
		}
	}
	p.users++
	s.parts = append(s.parts, p)
}

// release gives back what a snapshot used, the last first, and closes what nobody
// uses any more.
func (ps *parts) release(used []*sharedPart) error {
	var errs []error
	for i := len(used) - 1; i >= 0; i-- {
		p := used[i]
		ps.mu.Lock()
		p.users--
		last := p.users == 0
		ps.mu.Unlock()
		if !last {
			continue
		}
		if p.close != nil {
			errs = append(errs, p.close())
		}
		ps.mu.Lock()
		delete(ps.all, p.key)
		ps.mu.Unlock()
		close(p.closed)
	}
	return errors.Join(errs...)
}

// partMetrics are the metrics of the current snapshot and its parts, as a collector
// that says beforehand nothing of what it collects.
type partMetrics struct{ of *current }

// Describe implements prometheus.Collector.
func (partMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m partMetrics) Collect(to chan<- prometheus.Metric) {
	if m.of.p.Load() == nil { // Not built yet.
		return
	}
	h := m.of.take()
	defer h.Release()
	s := h.of.snapshot
	from := []*prometheus.Registry{s.metricsOwn}
	for _, p := range s.parts {
		from = append(from, p.metrics)
	}
	distinct(to, from)
}

// distinct collects what differs in name or labels: two services with certificates for
// one target have series of one name, and a series told twice fails the whole page.
func distinct(to chan<- prometheus.Metric, from []*prometheus.Registry) {
	all := make(chan prometheus.Metric)
	go func() {
		defer close(all)
		for _, r := range from {
			r.Collect(all)
		}
	}()
	told := map[string]bool{}
	for m := range all {
		var d dto.Metric
		if err := m.Write(&d); err == nil {
			key := m.Desc().String() + fmt.Sprint(d.GetLabel())
			if told[key] {
				continue
			}
			told[key] = true
		}
		to <- m
	}
}
