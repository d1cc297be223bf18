package jwks_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/auth/jwks"
)

// sample is the value of a metric, or -1 where there is none.
func sample(t *testing.T, reg *prometheus.Registry, name, issuer, outcome string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["issuer"] == issuer && labels["outcome"] == outcome {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

func TestOutcomes(t *testing.T) {
	for outcome, h := range map[string]http.HandlerFunc{
		"ok":            set(edJWK("k", edKey(t))),
		"bad_status":    http.NotFound,
		"too_large":     text(strings.Repeat(" ", 512<<10+1)),
		"malformed":     text(`{"keys":7}`),
		"no_usable_key": set(),
		"unreachable":   func(w http.ResponseWriter, _ *http.Request) { hangUp(w) },
	} {
		t.Run(outcome, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			srv := newServer(t, h)
			newSource(t, jwks.Options{URL: srv.URL, Issuer: "i", Metrics: reg})
			eventually(t, func() bool { return sample(t, reg, "sluice_jwks_fetches_total", "i", outcome) >= 1 })
		})
	}
}

func hangUp(w http.ResponseWriter) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = c.Close()
	}
}

func TestSourcesShareARegistry(t *testing.T) {
	reg := prometheus.NewRegistry()
	srv := newServer(t, set(edJWK("k", edKey(t)), edJWK("l", edKey(t))))
	open := func(issuer string) *jwks.Source {
		src, err := jwks.New(jwks.Options{URL: srv.URL, Issuer: issuer, Metrics: reg})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(src.Close)
		return src
	}
	keys := func(issuer string) float64 { return sample(t, reg, "sluice_jwks_keys", issuer, "") }
	a, _ := open("a"), open("b")
	eventually(t, func() bool { return keys("a") == 2 && keys("b") == 2 })
	// A reload makes the new one before it closes the old.
	again := open("a")
	a.Close()
	eventually(t, func() bool { return keys("a") == 2 && sample(t, reg, "sluice_jwks_fetches_total", "a", "ok") == 2 })
	again.Close()
	if got := keys("a"); got != -1 {
		t.Errorf("keys of a closed source: %v", got)
	}
	// Without a name the host stands in.
	open("")
	eventually(t, func() bool { return keys(strings.TrimPrefix(srv.URL, "http://")) == 2 })
	// A name that another has taken stops the start.
	taken := prometheus.NewRegistry()
	taken.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "sluice_jwks_keys", Help: "Something else."}))
	if _, err := jwks.New(jwks.Options{URL: srv.URL, Metrics: taken}); err == nil {
		t.Error("a registry that refuses the metrics was accepted")
	}
}
