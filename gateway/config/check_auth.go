package config

import (
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

func (f *file) crossCheckAuth(c *configv1.Config) {
	f.crossCheckTokenSize(c)
	issuers := map[string]int{}
	for i, issuer := range c.GetAuth().GetIssuers() {
		at := func(path ...any) []any { return append([]any{"auth", "issuers", i}, path...) }
		if first, twice := issuers[issuer.GetIssuer()]; twice {
			f.at(at("issuer"), "issuer %q is configured twice; first as auth.issuers[%d]", issuer.GetIssuer(), first)
		} else {
			issuers[issuer.GetIssuer()] = i
		}
		f.crossCheckKeys(issuer, at)
		f.crossCheckClaims(issuer.GetClaims(), at)
	}
	if keys := c.GetAuth().GetApiKeys(); keys != nil {
		f.crossCheckHeader(keys.GetHeader())
		f.crossCheckAPIKeys(keys.GetKeys(), "auth", "api_keys", "keys")
	}
	for i, cert := range c.GetAuth().GetClientCertificates() {
		if name := cert.GetUri() + cert.GetDns() + cert.GetEmail(); strings.Count(name, "*") > 1 {
			f.at([]any{"auth", "client_certificates", i}, "%q has more than one *", name)
		}
	}
}

// crossCheckTokenSize finds tokens that no listener would let through: other headers need
// room beside them.
func (f *file) crossCheckTokenSize(c *configv1.Config) {
	const beside, byDefault = 4096, 8192
	most, at := int64(c.GetAuth().GetMaxTokenBytes()), []any{"auth", "max_token_bytes"}
	if most <= byDefault { // Who makes listeners stricter than that does not ask for longer tokens.
		return
	}
	if bound := int64(c.GetHttp().GetMaxHeaderBytes()); most+beside > bound {
		f.at(at, "tokens of %d bytes do not fit into http.max_header_bytes (%d): expected %d less at least", most, bound, beside)
	}
	if bound := int64(c.GetGrpc().GetMaxMetadataBytes()); most+beside > bound {
		f.at(at, "tokens of %d bytes do not fit into grpc.max_metadata_bytes (%d): expected %d less at least", most, bound, beside)
	}
}

func (f *file) crossCheckKeys(issuer *configv1.Issuer, at func(...any) []any) {
	_, symmetric := issuer.GetKeys().(*configv1.Issuer_HmacSecretFile)
	for n, alg := range issuer.GetAlgorithms() {
		switch hs := strings.HasPrefix(alg, "HS"); {
		case hs && !symmetric:
			f.at(at("algorithms", n), "algorithm %s needs hmac_secret_file: a public key is no secret", alg)
		case !hs && symmetric:
			f.at(at("algorithms", n), "algorithm %s needs public keys; with hmac_secret_file, expected HS256, HS384 or HS512", alg)
		}
	}
	for n, name := range issuer.GetPublicKeys().GetFiles() {
		if name == "" {
			f.at(at("public_keys", "files", n), "expected the path of a PEM file, got nothing")
		}
	}
	const plain = "expected an https URL (http is for loopback addresses): keys that come in plain text can be anyone's"
	if raw := issuer.GetJwksUrl(); raw != "" && !secure(raw) {
		f.at(at("jwks_url"), plain)
	}
	if d := issuer.GetOidcDiscovery(); d != nil {
		switch raw := d.GetUrl(); {
		case raw != "" && !secure(raw):
			f.at(at("oidc_discovery", "url"), plain)
		case raw == "" && !secure(issuer.GetIssuer()):
			f.at(at("issuer"), "with oidc_discovery the issuer is the URL its document is found at: expected https (http is for loopback addresses), or oidc_discovery.url")
		}
	}
}

// secure says what gateway/auth/jwks will, before the start.
func secure(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback())
}

// claimPath is the outer form of a path of claims; gateway/auth compiles it.
var claimPath = regexp.MustCompile(`^([\w:$@-]+|\["([^"\\]|\\.)+"\])(\.[\w:$@-]+|\["([^"\\]|\\.)+"\])*$`)

func (f *file) crossCheckClaims(c *configv1.Claims, at func(...any) []any) {
	check := func(path string, key ...any) {
		if path != "" && !claimPath.MatchString(path) {
			f.at(at(append([]any{"claims"}, key...)...), `expected names with dots between them, such as realm_access.roles or ["https://example.com/roles"], got %q`, path)
		}
	}
	check(c.GetSubject(), "subject")
	check(c.GetTenant(), "tenant")
	check(c.GetAudience(), "audience")
	for n, path := range c.GetScopes() {
		if path == "" {
			f.at(at("claims", "scopes", n), "expected the path of a claim, got nothing")
		}
		check(path, "scopes", n)
	}
}

// Headers that mean something else, to us or to those between the caller and us.
var taken = []string{
	"accept", "accept-encoding", "accept-language", "authorization", "cache-control", "connection", "content-encoding", "content-length", "content-type",
	"cookie", "date", "expect", "forwarded", "from", "host", "idempotency-key", "keep-alive", "origin", "referer", "range", "te", "traceparent",
	"tracestate", "trailer", "transfer-encoding", "upgrade", "user-agent", "via", "x-real-ip", "x-request-id",
}

func (f *file) crossCheckHeader(name string) {
	path := []any{"auth", "api_keys", "header"}
	switch lower := strings.ToLower(name); {
	case slices.Contains(taken, lower),
		slices.ContainsFunc([]string{"grpc-", "if-", "proxy-", "sec-", "access-control-", "x-forwarded-"}, func(p string) bool { return strings.HasPrefix(lower, p) }):
		f.at(path, "header %s has a meaning of its own; choose another, such as X-API-Key", name)
	case strings.HasSuffix(lower, "-bin"):
		f.at(path, "header %s: gRPC takes the values of metadata that ends with -bin for base64", name)
	}
}

// crossCheckAPIKeys looks at keys that stand at path.
func (f *file) crossCheckAPIKeys(keys []*configv1.ApiKey, path ...any) {
	ids, hashes := map[string]int{}, map[string]int{}
	for i, k := range keys {
		at := func(name string) []any { return append(slices.Clone(path), i, name) }
		if first, twice := ids[k.GetId()]; twice {
			f.at(at("id"), "API key %q comes twice; first as keys[%d]", k.GetId(), first)
		} else {
			ids[k.GetId()] = i
		}
		// The id is part of what is hashed: of two keys with one hash, one never works.
		if first, twice := hashes[k.GetHash()]; twice {
			f.at(at("hash"), "this is the hash of keys[%d] as well", first)
		} else {
			hashes[k.GetHash()] = i
		}
	}
}
