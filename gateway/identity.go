package gateway

import (
	"errors"
	"fmt"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/auth/jwks"
)

// errNoIssuer is what an operator reads who starts a gateway that could
// authenticate nobody.
var errNoIssuer = errors.New(`no issuer of tokens is configured, so nobody could call anything. Either
  - name one in the configuration file (SLUICE_CONFIG or --config):
      auth:
        issuers:
          - issuer: https://login.example.com/
            audiences: [my-api]
            jwks_url: https://login.example.com/.well-known/jwks.json
  - or try the gateway with a development key: sluice serve --demo`)

// verifier knows the configured issuers and, with --demo, the development key.
func (g *Gateway) verifier() (*auth.Verifier, error) {
	var issuers []auth.Issuer
	for _, c := range g.cfg.GetAuth().GetIssuers() {
		is, err := g.issuer(c)
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", c.GetIssuer(), err)
		}
		issuers = append(issuers, is)
	}
	if g.o.demo {
		key, err := auth.OpenDevKey(g.cfg.GetDataDir())
		if err != nil {
			return nil, err
		}
		g.devKey = key
		issuers = append(issuers, key.Issuer())
	}
	if len(issuers) == 0 {
		return nil, errNoIssuer
	}
	return auth.NewVerifier(auth.Options{Issuers: issuers})
}

func (g *Gateway) issuer(c *configv1.Issuer) (auth.Issuer, error) {
	is := auth.Issuer{Name: c.GetIssuer(), Audiences: c.GetAudiences(), Algorithms: c.GetAlgorithms(), Leeway: c.GetLeeway().AsDuration()}
	var err error
	switch k := c.GetKeys().(type) {
	case *configv1.Issuer_PublicKeys:
		is.Keys, err = auth.PublicKeyFiles(k.PublicKeys.GetFiles()...)
	case *configv1.Issuer_HmacSecretFile:
		is.Keys, err = auth.SecretFile(k.HmacSecretFile)
	case *configv1.Issuer_JwksUrl:
		var set *jwks.Source
		if set, err = jwks.New(jwks.Options{URL: k.JwksUrl, Log: g.log}); err == nil {
			g.onClose(func() error { set.Close(); return nil })
			is.Keys = set
		}
	}
	return is, err
}
