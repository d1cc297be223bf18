package proxy_test

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/proxy"
)

// TestFaults: a failure on purpose is the caller's answer, and nobody tries again.
func TestFaults(t *testing.T) {
	var calls atomic.Int64
	addr := backend(t, func(w http.ResponseWriter, _ *http.Request) { calls.Add(1); _, _ = io.WriteString(w, "ok") })
	u := to(addr)
	up := u["up"]
	up.Faults = []proxy.Fault{
		{Abort: codes.Unavailable, Percent: 100, Header: "X-Fault", Value: "abort"},
		{Delay: time.Hour, Percent: 100, Header: "X-Fault", Value: "hang"},
		{Delay: time.Millisecond, Percent: 100, Header: "X-Fault"},
	}
	u["up"] = up
	reg := prometheus.NewRegistry()
	_, url := start(t, proxy.Options{Upstreams: u, Counters: reg, Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}, Rule: policy.HTTPOptions{Deadline: 200 * time.Millisecond}}}})
	for _, tc := range []struct {
		value string
		code  int
		calls int64
	}{{"", 200, 1}, {"abort", 503, 0}, {"hang", 504, 0}, {"slow", 200, 1}} {
		calls.Store(0)
		h := http.Header{}
		if tc.value != "" {
			h.Set("X-Fault", tc.value)
		}
		if res, _ := get(t, url+"/", h); res.StatusCode != tc.code || calls.Load() != tc.calls {
			t.Errorf("%s: %d after %d calls", tc.value, res.StatusCode, calls.Load())
		}
	}
	if all, err := reg.Gather(); err != nil || len(all) != 1 || len(all[0].GetMetric()) != 2 {
		t.Errorf("%v %v, want delay and abort", all, err)
	}
	up.Faults = []proxy.Fault{{Percent: 1}}
	u["up"] = up
	if _, err := proxy.New(proxy.Options{Signer: signer{}, Upstreams: u}); err == nil {
		t.Error("a fault that does nothing is taken")
	}
}
