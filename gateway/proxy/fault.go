package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// Fault is a failure on purpose, for staging, as upstream.Fault is for RPCs: it stands
// before breaker and retries, so neither is told of it, nor hides it.
type Fault struct {
	// Delay is how long a request waits before it is sent, within its deadline.
	Delay time.Duration
	// Abort is answered in the place of the service, as gateway/httpedge answers that code
	// (UNAVAILABLE is 503); OK means none.
	Abort codes.Code
	// Percent of the requests.
	Percent float64
	// Header that a request must have, with this Value where that is not empty.
	Header, Value string
}

func (f *Fault) check() error {
	switch {
	case f.Delay < 0:
		return errors.New("delay must not be negative")
	case f.Delay == 0 && f.Abort == codes.OK:
		return errors.New("it has neither delay nor abort")
	case f.Abort > codes.Unauthenticated:
		return errors.New("abort is no code of gRPC")
	case !(f.Percent > 0 && f.Percent <= 100):
		return errors.New("percent must be above 0, and 100 at most")
	}
	return nil
}

// reasonFault is upstream.ReasonFault.
const reasonFault = "FAULT_INJECTED"

// faultCounter registers the counter, or finds that of the connection to RPC services,
// or of the snapshot before: they share one.
func faultCounter(to prometheus.Registerer) (*prometheus.CounterVec, error) {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_faults_total", Help: "Failures on purpose: delay or abort."}, []string{"service", "kind"})
	if to == nil {
		return c, nil
	}
	err := to.Register(c)
	var have prometheus.AlreadyRegisteredError
	if errors.As(err, &have) {
		if c, ok := have.ExistingCollector.(*prometheus.CounterVec); ok {
			return c, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("metric sluice_faults_total: %w", err)
	}
	return c, nil
}

func (f *Fault) strikes(q *Request) bool {
	if f.Header != "" {
		have := q.call.Headers(f.Header)
		if len(have) == 0 || f.Value != "" && !slices.Contains(have, f.Value) {
			return false
		}
	}
	return f.Percent >= 100 || rand.Float64()*100 < f.Percent //nolint:gosec // Chance, not secrecy.
}

// fail lets a request have its fault. The error is the caller's answer.
func (q *Request) fail(ctx context.Context) error {
	for i := range q.route.faults {
		f := &q.route.faults[i]
		if !f.strikes(q) {
			continue
		}
		name := q.route.upstream.name
		if f.Delay > 0 {
			q.p.faults.WithLabelValues(name, "delay").Inc()
			t := time.NewTimer(f.Delay)
			defer t.Stop()
			select {
			case <-t.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			q.delayed = true
		}
		if f.Abort == codes.OK {
			return nil
		}
		q.p.faults.WithLabelValues(name, "abort").Inc()
		return withInfo(f.Abort, "a failure on purpose, by the operator's configuration", reasonFault, 0)
	}
	return nil
}
