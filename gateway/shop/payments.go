package shop

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/payments"
)

// HTTPServices are the shop's services in plain HTTP, for demonstrations.
func HTTPServices() []gateway.HTTPService {
	return []gateway.HTTPService{{Name: payments.Name, Embed: openPayments, Routes: []*configv1.HttpRoute{{
		Name:     payments.Name,
		Upstream: payments.Name,
		Match:    &configv1.HttpMatch{Path: &configv1.HttpMatch_Template{Template: "/v1/payments/{user_id}/**"}, Methods: []string{http.MethodGet, http.MethodPost}},
		Require:  &policyv1.Require{Authenticated: true, Owner: "user_id"},
	}}}}
}

// openPayments opens the service in this process.
func openPayments(ctx context.Context, e gateway.Embedding) (http.Handler, func() error, error) {
	v, err := kit.NewVerifierFunc(e.AssertionKeys)
	if err != nil {
		return nil, nil, err
	}
	s, err := payments.Open(ctx, "sqlite:"+filepath.Join(e.Config.GetDataDir(), payments.Name+".db"), v, e.Logger)
	if err != nil {
		return nil, nil, fmt.Errorf("open its database: %w", err)
	}
	if e.Demo {
		if err := s.Seed(ctx); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("write the demo data: %w", err), s.Close())
		}
	}
	return s, s.Close, nil
}
