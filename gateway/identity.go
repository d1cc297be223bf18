package gateway

import (
	"errors"
	"fmt"
	"time"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/auth/jwks"
	"github.com/sluice-gateway/sluice/gateway/config"
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
  - or give programs API keys: sluice apikey create --owner NAME --scope "..."
  - or try the gateway with a development key: sluice serve --demo`)

// authenticator knows the configured issuers, API keys and certificates and,
// with --demo, the development key.
func (g *Gateway) authenticator() (*auth.Authenticator, error) {
	c := g.cfg.GetAuth()
	var o auth.AuthenticatorOptions
	var err error
	if o.Tokens, err = g.verifier(); err != nil {
		return nil, err
	}
	if keys := c.GetApiKeys(); len(keys.GetKeys()) > 0 || keys.GetFile() != "" {
		if o.Keys, err = g.apiKeys(keys); err != nil {
			return nil, err
		}
	}
	if len(c.GetClientCertificates()) > 0 {
		if o.Certificates, err = auth.NewClientCertificates(certificateRules(c.GetClientCertificates())); err != nil {
			return nil, fmt.Errorf("auth.client_certificates: %w", err)
		}
	}
	if o.Tokens == nil && o.Keys == nil && o.Certificates == nil {
		return nil, errNoIssuer
	}
	return auth.NewAuthenticator(o)
}

// verifier is nil where no issuer is configured.
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
		return nil, nil
	}
	return auth.NewVerifier(auth.Options{Issuers: issuers})
}

func (g *Gateway) issuer(c *configv1.Issuer) (auth.Issuer, error) {
	is := auth.Issuer{Name: c.GetIssuer(), Audiences: c.GetAudiences(), Algorithms: c.GetAlgorithms(), Leeway: c.GetLeeway().AsDuration()}
	if m := c.GetClaims(); m != nil {
		is.Claims = auth.ClaimPaths{Subject: m.GetSubject(), Scopes: m.GetScopes(), Tenant: m.GetTenant(), SubjectPrefix: m.GetSubjectPrefix()}
	}
	var err error
	switch k := c.GetKeys().(type) {
	case *configv1.Issuer_PublicKeys:
		is.Keys, err = g.keyFiles(auth.PublicKeyFiles(k.PublicKeys.GetFiles()...))
	case *configv1.Issuer_HmacSecretFile:
		is.Keys, err = g.keyFiles(auth.SecretFile(k.HmacSecretFile))
	case *configv1.Issuer_JwksUrl:
		is.Keys, err = g.keySet(c, jwks.Options{URL: k.JwksUrl})
	case *configv1.Issuer_OidcDiscovery:
		url := k.OidcDiscovery.GetUrl()
		if url == "" {
			url = jwks.DiscoveryURL(c.GetIssuer())
		}
		is.Keys, err = g.keySet(c, jwks.Options{Discovery: url})
	}
	return is, err
}

// keyFiles has keys follow their files.
func (g *Gateway) keyFiles(keys *auth.KeyFiles, err error) (auth.KeySource, error) {
	if err != nil {
		return nil, err
	}
	g.onClose(func() error { keys.Close(); return nil })
	keys.Watch(0, g.log)
	return keys, nil
}

func (g *Gateway) keySet(c *configv1.Issuer, o jwks.Options) (auth.KeySource, error) {
	o.Issuer, o.MaxAge, o.Log, o.Metrics = c.GetIssuer(), c.GetKeysMaxAge().AsDuration(), g.log, g.metrics.Registry()
	set, err := jwks.New(o)
	if err != nil {
		return nil, err
	}
	g.onClose(func() error { set.Close(); return nil })
	return set, nil
}

// apiKeys are those of the configuration and of its file, which is read again
// when it changes.
func (g *Gateway) apiKeys(c *configv1.ApiKeys) (*auth.APIKeys, error) {
	o := auth.APIKeysOptions{Header: c.GetHeader(), Keys: apiKeyList(c.GetKeys()), Log: g.log, Metrics: g.metrics.Registry()}
	if c.GetFile() != "" {
		o.Load = func() ([]auth.APIKey, error) {
			list, err := config.LoadAPIKeys(c.GetFile())
			if err != nil {
				return apiKeyList(list), err // Those it names, all the same.
			}
			for _, k := range list {
				if class := g.checkStandIn(k.GetLimitClass()); class != nil {
					err = errors.Join(err, fmt.Errorf("%s: key %s: %w", c.GetFile(), k.GetId(), class))
				}
			}
			return apiKeyList(list), err
		}
	}
	keys, err := auth.NewAPIKeys(o)
	if err != nil {
		return nil, fmt.Errorf("auth.api_keys: %w", err)
	}
	g.keys = keys
	g.onClose(func() error { keys.Close(); return nil })
	if c.GetFile() != "" {
		keys.WatchFile(c.GetFile(), 0)
	}
	return keys, nil
}

func apiKeyList(from []*configv1.ApiKey) []auth.APIKey {
	var out []auth.APIKey
	for _, k := range from {
		var expires time.Time
		if k.GetExpires() != nil {
			expires = k.GetExpires().AsTime()
		}
		out = append(out, auth.APIKey{
			ID: k.GetId(), Hash: k.GetHash(), Owner: k.GetOwner(), Scopes: k.GetScopes(), Tenant: k.GetTenant(),
			LimitClass: k.GetLimitClass(), Expires: expires,
		})
	}
	return out
}

func certificateRules(from []*configv1.ClientCertificate) []auth.CertificateRule {
	var out []auth.CertificateRule
	for _, c := range from {
		out = append(out, auth.CertificateRule{
			URI: c.GetUri(), DNS: c.GetDns(), Email: c.GetEmail(),
			Subject: c.GetSubject(), Scopes: c.GetScopes(), Tenant: c.GetTenant(), LimitClass: c.GetLimitClass(),
		})
	}
	return out
}
