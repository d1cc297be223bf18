package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// RoutesOf lists every method with its routes, rule and target, as a gateway of
// this configuration would have them. Nothing is opened, made or called.
func RoutesOf(cfg *configv1.Config, opts ...Option) ([]admin.Route, error) {
	var out []admin.Route
	err := offline(cfg, &recorder{}, offlineOptions{}, opts, func(g *Gateway) error {
		out = g.Routes()
		return nil
	})
	return out, err
}

// offlineOptions say what an offline gateway takes from the machine.
type offlineOptions struct {
	auth   bool // issuers and API keys of the configuration
	devKey bool // the development key of the data directory, if there is one
}

// offline builds a gateway that touches nothing but a directory of its own, for
// the length of f.
func offline(cfg *configv1.Config, r *recorder, o offlineOptions, opts []Option, f func(*Gateway) error) (err error) {
	dir, err := os.MkdirTemp("", "sluice-offline-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.devKey {
		if err := copyDevKey(cfg.GetDataDir(), dir); err != nil {
			return err
		}
	}
	cfg = proto.CloneOf(cfg)
	cfg.DataDir = dir
	cfg.Assertion = &configv1.Assertion{KeyFile: filepath.Join(dir, "assertion-key.pem"), Ttl: cfg.GetAssertion().GetTtl()}
	cfg.Log = &configv1.Log{Level: "debug"}
	if cfg.Limits != nil {
		cfg.Limits.Redis = nil
	}
	if cfg.Auth != nil {
		cfg.Auth.ClientCertificates = nil
		if !o.auth {
			cfg.Auth.Issuers, cfg.Auth.ApiKeys = nil, nil
		}
	}
	if cfg.Http != nil {
		cfg.Http.Tls = nil
	}
	if cfg.Grpc != nil {
		cfg.Grpc.Tls = nil
	}
	if cfg.ClientAddress != nil {
		cfg.ClientAddress.ProxyProtocol = false
	}
	// The development key makes up for issuers that are not asked.
	opts = append(opts[:len(opts):len(opts)], WithDemo(), WithLogger(slog.New(r)),
		WithGetenv(func(string) string { return "" }), func(op *options) { op.explain, op.onReady = r, nil })
	g, err := New(cfg, opts...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	return f(g)
}

// devKeyFile is where auth.OpenDevKey keeps the development key.
const devKeyFile = "dev-signing-key.pem"

// copyDevKey lets tokens of `sluice token` be explained. Without a key there are
// none.
func copyDevKey(from, to string) error {
	pem, err := os.ReadFile(filepath.Join(from, devKeyFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, devKeyFile), pem, 0o600)
}

// describe adds to a route what the configuration and the rule say in words.
func (s *snapshot) describe(r *admin.Route, m *policy.Method) {
	r.Tenant, r.Conditions = m.Rule.TenantText(), nil
	for _, c := range m.Rule.Conditions {
		r.Conditions = append(r.Conditions, admin.Condition{ID: c.ID(), Expression: c.Expression()})
	}
	r.Passes = m.Rule.Passes()
	r.Limit = limitWords(s.cfg.GetLimits().GetClasses()[r.LimitClass])
}

// limitWords says in words what a class of limits holds callers to.
func limitWords(c *configv1.LimitClass) string {
	var out []string
	for _, r := range c.GetRates() {
		interval := time.Second
		if r.GetInterval() != nil {
			interval = r.GetInterval().AsDuration()
		}
		s := fmt.Sprintf("%d in %s per %s", r.GetRequests(), interval, r.GetPer())
		if r.GetBurst() > 0 {
			s += fmt.Sprintf(", %d at once", r.GetBurst())
		}
		out = append(out, s)
	}
	for _, q := range c.GetQuotas() {
		out = append(out, fmt.Sprintf("%d a %s per %s", q.GetRequests(), q.GetPeriod(), q.GetPer()))
	}
	if n := c.GetMaxInFlightPerCaller(); n > 0 {
		out = append(out, fmt.Sprintf("%d in flight per caller", n))
	}
	if n := c.GetMaxInFlightPerMethod(); n > 0 {
		out = append(out, fmt.Sprintf("%d in flight per method", n))
	}
	return strings.Join(out, "; ")
}
