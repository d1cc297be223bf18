package limit

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// fakeClock is a wall clock that only tests move.
type fakeClock struct{ ns atomic.Int64 }

func (c *fakeClock) now() time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(c.ns.Load()))
}

func (c *fakeClock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// cannedStore answers what it is told to, and keeps what it was asked.
type cannedStore struct {
	answers []Answer
	ok      bool
	err     error
	asked   []Ask
	takes   int
	closed  bool
}

func (s *cannedStore) Take(_ context.Context, asks []Ask, answers []Answer) (bool, error) {
	s.takes++
	s.asked = append([]Ask(nil), asks...)
	if s.err != nil {
		return false, s.err
	}
	if len(s.answers) != len(asks) {
		return false, errors.New("canned for other asks")
	}
	copy(answers, s.answers)
	return s.ok, nil
}

func (s *cannedStore) Close() error { s.closed = true; return nil }

// take asks one budget of m.
func take(t testing.TB, m Store, a Ask) Answer {
	t.Helper()
	answers := []Answer{{}}
	ok, err := m.Take(context.Background(), []Ask{a}, answers)
	if err != nil {
		t.Fatal(err)
	}
	if ok != answers[0].OK {
		t.Fatalf("admitted %v, and the only answer says %v", ok, answers[0].OK)
	}
	return answers[0]
}

// fields are the headers a call was answered with, in order.
type fields [][2]string

// newCall is a call of a caller from an address to /t.v1.T/M in a class.
func newCall(class string, cost int, p *policy.Principal, addr string) (*policy.Call, *fields) {
	got := &fields{}
	c := &policy.Call{
		Method:    &policy.Method{FullName: "/t.v1.T/M", Rule: policy.Rule{LimitClass: class, LimitCost: cost}},
		Principal: p,
		Annotate:  func(k, v string) { *got = append(*got, [2]string{k, v}) },
	}
	if addr != "" {
		c.Client = netip.MustParseAddr(addr)
	}
	return c, got
}

func known(subject string) *policy.Principal {
	return policy.NewPrincipal(subject, "iss", nil, time.Time{})
}

func withKey(subject, key, tenant, class string) *policy.Principal {
	p := known(subject)
	p.APIKey, p.Tenant, p.LimitClass = key, tenant, class
	return p
}

// metric is the value of a metric with these label values, in the order of the
// labels' names; 0 when it is not there.
func metric(t testing.TB, g prometheus.Gatherer, name string, labels ...string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var got []string
			for _, l := range m.GetLabel() {
				got = append(got, l.GetValue())
			}
			if f.GetName() == name && slices.Equal(got, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// outcome is what a refusal tells the caller.
type outcome struct {
	Code   codes.Code
	Reason string
	Limit  string
	Class  string
	Retry  time.Duration // -1: no RetryInfo.
}

func outcomeOf(err error) outcome {
	st := status.Convert(err)
	o := outcome{Code: st.Code(), Retry: -1}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == policy.ErrorDomain {
				o.Reason, o.Limit, o.Class = d.GetReason(), d.GetMetadata()["limit"], d.GetMetadata()["class"]
			}
		case *errdetails.RetryInfo:
			o.Retry = d.GetRetryDelay().AsDuration()
		}
	}
	return o
}
