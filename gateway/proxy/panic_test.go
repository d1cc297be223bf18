package proxy_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/proxy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
)

type panics struct{}

func (panics) Sign(*policy.Principal, string) (string, error) { panic("on purpose") }

// TestAPanicGivesItsPlaceBack: the edge survives a panic within an attempt, so the attempt
// must not stay among the requests in flight.
func TestAPanicGivesItsPlaceBack(t *testing.T) {
	known, err := resilience.NewService(resilience.Options{})
	if err != nil {
		t.Fatal(err)
	}
	u := to(backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "never") }))
	up := u["up"]
	up.Target.Service = known
	u["up"] = up
	var svc *proxy.Service
	_, url := start(t, proxy.Options{Upstreams: u, Signer: panics{}, Routes: []proxy.Route{{Name: "all", Match: proxy.Match{Prefix: "/"}, Rule: once}},
		Open: func(name string, u proxy.Upstream) (*proxy.Service, error) {
			var err error
			svc, err = proxy.Open(name, u, proxy.Options{Signer: panics{}})
			return svc, err
		}})
	t.Cleanup(func() { _ = svc.Close() })
	r, err := http.NewRequestWithContext(t.Context(), "PUT", url+"/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := http.DefaultTransport.RoundTrip(r); err == nil {
		_ = res.Body.Close()
		t.Error("the panic was swallowed")
	}
	for _, s := range known.States() {
		if s.InFlight != 0 || s.Failures != 0 {
			t.Errorf("%+v", s)
		}
	}
	if n := svc.Places()[0].Backends[0].InFlight; n != 0 {
		t.Errorf("%d in flight at the backend", n)
	}
}
