package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/auth/jwks"
	"github.com/sluice-gateway/sluice/gateway/config"
	"github.com/sluice-gateway/sluice/gateway/policy"
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

// newAuthenticator knows the configured issuers, API keys and certificates and,
// with --demo, the development key.
func (s *snapshot) newAuthenticator(ctx context.Context) (*auth.Authenticator, error) {
	c := s.cfg.GetAuth()
	o := auth.AuthenticatorOptions{Trusts: s.gateway.trusts}
	var err error
	if o.Tokens, err = s.verifier(ctx); err != nil {
		return nil, err
	}
	if keys := c.GetApiKeys(); len(keys.GetKeys()) > 0 || keys.GetFile() != "" {
		if o.Keys, err = s.apiKeys(keys); err != nil {
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

// trusts says whether a listener would still accept a client certificate that it
// verified when its connection began.
func (g *Gateway) trusts(e policy.Edge, chains [][]*x509.Certificate) bool {
	listener := g.httpTLS
	if e == policy.EdgeGRPC {
		listener = g.grpcTLS
	}
	return listener == nil || listener.Trusts(chains) // Without TLS of ours there are no chains.
}

// verifier is nil where no issuer is configured. It remembers the tokens that it
// has verified, so it outlives a reload that changes no issuer; the key sets
// outlive it.
func (s *snapshot) verifier(ctx context.Context) (*auth.Verifier, error) {
	sets := map[string]*jwks.Source{}
	ctx, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	from := []any{s.o.demo, s.cfg.GetDataDir(), s.cfg.GetAuth().GetMaxTokenBytes()}
	for _, c := range s.cfg.GetAuth().GetIssuers() {
		from = append(from, c)
		set, err := s.keySet(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("auth.issuers: %s: %w", c.GetIssuer(), err)
		}
		sets[c.GetIssuer()] = set
	}
	return part(s, "verifier", from, func(prometheus.Registerer) (*auth.Verifier, func() error, error) {
		return s.newVerifier(sets)
	})
}

// newVerifier closes the files of keys with the verifier that they tell of changes.
func (s *snapshot) newVerifier(sets map[string]*jwks.Source) (*auth.Verifier, func() error, error) {
	var files []*auth.KeyFiles
	stop := func() error {
		for _, f := range files {
			f.Close()
		}
		return nil
	}
	v, err := func() (*auth.Verifier, error) {
		var issuers []auth.Issuer
		for _, c := range s.cfg.GetAuth().GetIssuers() {
			is, keys, err := s.issuer(c)
			if err != nil {
				return nil, fmt.Errorf("auth.issuers: %s: %w", c.GetIssuer(), err)
			}
			if keys != nil { // They follow their files.
				keys.Watch(0, s.log)
				files, is.Keys = append(files, keys), keys
			} else {
				is.Keys = sets[c.GetIssuer()]
			}
			issuers = append(issuers, is)
		}
		if s.o.demo {
			key, err := auth.OpenDevKey(s.cfg.GetDataDir())
			if err != nil {
				return nil, err
			}
			s.gateway.devKey.Store(key)
			issuers = append(issuers, key.Issuer())
		}
		if len(issuers) == 0 {
			return nil, nil
		}
		return auth.NewVerifier(auth.Options{Issuers: issuers, MaxTokenBytes: int(s.cfg.GetAuth().GetMaxTokenBytes()), Changed: s.gateway.openCalls.Changed})
	}()
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return v, stop, nil
}

// issuer is one of the configuration, with its keys where they stand in files.
func (s *snapshot) issuer(c *configv1.Issuer) (is auth.Issuer, keys *auth.KeyFiles, err error) {
	is = auth.Issuer{Name: c.GetIssuer(), Audiences: c.GetAudiences(), Algorithms: c.GetAlgorithms(), Leeway: c.GetLeeway().AsDuration()}
	if m := c.GetClaims(); m != nil {
		is.Claims = auth.ClaimPaths{Subject: m.GetSubject(), Scopes: m.GetScopes(), Tenant: m.GetTenant(), SubjectPrefix: m.GetSubjectPrefix(),
			Audience: m.GetAudience(), SubjectSpaces: m.GetSubjectSpaces(), SubjectMaxBytes: int(m.GetSubjectMaxBytes())}
	}
	switch k := c.GetKeys().(type) {
	case *configv1.Issuer_PublicKeys:
		keys, err = auth.PublicKeyFiles(k.PublicKeys.GetFiles()...)
	case *configv1.Issuer_HmacSecretFile:
		keys, err = auth.SecretFile(k.HmacSecretFile)
	}
	return is, keys, err
}

// keySet is nil for an issuer whose keys stand in files.
func (s *snapshot) keySet(ctx context.Context, c *configv1.Issuer) (*jwks.Source, error) {
	o := jwks.Options{Issuer: c.GetIssuer(), MaxAge: c.GetKeysMaxAge().AsDuration(), Log: s.log, Metrics: s.metrics.Registry()}
	switch k := c.GetKeys().(type) {
	case *configv1.Issuer_JwksUrl:
		o.URL = k.JwksUrl
	case *configv1.Issuer_OidcDiscovery:
		if o.Discovery = k.OidcDiscovery.GetUrl(); o.Discovery == "" {
			o.Discovery = jwks.DiscoveryURL(c.GetIssuer())
		}
	default:
		return nil, nil
	}
	return part(s, "keyset", []any{o.Issuer, o.URL, o.Discovery, o.MaxAge}, func(prometheus.Registerer) (*jwks.Source, func() error, error) {
		set, err := jwks.New(o)
		if err != nil {
			return nil, nil, err
		}
		if err := s.arrived(ctx, c.GetIssuer(), set); err != nil {
			set.Close()
			return nil, nil, err
		}
		return set, func() error { set.Close(); return nil }, nil
	})
}

// keysWait is how long a reload waits for the keys of the issuers that it changes.
const keysWait = 10 * time.Second

// arrived waits for the keys of an issuer that a reload changes: until then its
// tokens could not be verified, which they are now. A start does not wait, and
// neither need an issuer that was not there before.
func (s *snapshot) arrived(ctx context.Context, issuer string, set *jwks.Source) error {
	now := s.gateway.current.p.Load()
	if now == nil {
		return nil
	}
	err := set.First(ctx)
	if err == nil {
		return nil
	}
	for _, c := range now.snapshot.cfg.GetAuth().GetIssuers() {
		if c.GetIssuer() == issuer {
			return fmt.Errorf("its keys cannot be fetched from where the configuration says now: %w", err)
		}
	}
	s.log.Warn("the keys of a new issuer cannot be fetched: until they are, its tokens are answered UNAVAILABLE", "issuer", issuer, "error", err)
	return nil
}

// apiKeys are those of the configuration and of its file, which is read again
// when it changes. Other limits make other keys of them: each must name a class
// that is there.
func (s *snapshot) apiKeys(c *configv1.ApiKeys) (*auth.APIKeys, error) {
	from := []any{c, s.dearest}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.GetLimits().GetClasses())) {
		from = append(from, name, s.cfg.GetLimits().GetClasses()[name])
	}
	keys, err := part(s, "apikeys", from, func(r prometheus.Registerer) (*auth.APIKeys, func() error, error) {
		return s.newAPIKeys(c, r)
	})
	s.keys = keys
	return keys, err
}

func (s *snapshot) newAPIKeys(c *configv1.ApiKeys, r prometheus.Registerer) (*auth.APIKeys, func() error, error) {
	o := auth.APIKeysOptions{Header: c.GetHeader(), Keys: apiKeyList(c.GetKeys()), Changed: s.gateway.openCalls.Changed, Log: s.log, Metrics: r}
	if file, check := c.GetFile(), s.checkStandIn; file != "" {
		o.Load = func() ([]auth.APIKey, error) { return loadAPIKeys(file, check) }
	}
	keys, err := auth.NewAPIKeys(o)
	if err != nil {
		return nil, nil, fmt.Errorf("auth.api_keys: %w", err)
	}
	if c.GetFile() != "" {
		keys.WatchFile(c.GetFile(), 0)
	}
	return keys, func() error { keys.Close(); return nil }, nil
}

// loadAPIKeys reads the file of API keys; beside an error it returns those that the
// file names all the same.
func loadAPIKeys(file string, check func(class string) error) ([]auth.APIKey, error) {
	list, err := config.LoadAPIKeys(file)
	if err != nil {
		return apiKeyList(list), err
	}
	for _, k := range list {
		if class := check(k.GetLimitClass()); class != nil {
			err = errors.Join(err, fmt.Errorf("%s: key %s: %w", file, k.GetId(), class))
		}
	}
	return apiKeyList(list), err
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
