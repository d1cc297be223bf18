package config

import (
	"path/filepath"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// Services whose databases are embedded.
var embedded = [...]string{"user", "order", "profile"}

// fillDefaults sets what the file leaves out, as the comments of the schema say.
// Afterwards every message is there, but for those whose absence means
// something: tls, cors, client_address, api_keys, redis, an issuer's claims, a
// method override's values, what an upstream does not use.
func fillDefaults(c *configv1.Config) {
	c.Http, c.Grpc, c.Admin = orNew(c.Http), orNew(c.Grpc), orNew(c.Admin)
	c.Auth, c.Assertion, c.Defaults = orNew(c.Auth), orNew(c.Assertion), orNew(c.Defaults)
	c.Shutdown, c.Log, c.Limits = orNew(c.Shutdown), orNew(c.Log), orNew(c.Limits)

	fillHTTP(c.Http)
	fillGRPC(c.Grpc)
	c.Admin.Addr = or(c.Admin.Addr, "127.0.0.1:9901")
	c.DataDir = or(c.DataDir, "data")
	if a := c.ClientAddress; len(a.GetTrustedProxies()) > 0 {
		a.Header = or(a.Header, "x-forwarded-for")
	}
	fillAuth(c.Auth)
	fillLimits(c.Limits)
	c.Assertion.KeyFile = or(c.Assertion.KeyFile, filepath.Join(c.DataDir, "assertion-key.pem"))
	c.Assertion.Ttl = orDuration(c.Assertion.Ttl, 60*time.Second)

	c.Defaults.Deadline = orDuration(c.Defaults.Deadline, 5*time.Second)
	c.Defaults.MaxRequestBytes = or(c.Defaults.MaxRequestBytes, 1048576)
	c.Defaults.StreamIdle = orDuration(c.Defaults.StreamIdle, 5*time.Minute)
	c.Defaults.StreamMaxAge = orDuration(c.Defaults.StreamMaxAge, time.Hour)

	if c.Databases == nil {
		c.Databases = map[string]*configv1.Database{}
	}
	for _, name := range embedded {
		c.Databases[name] = orNew(c.Databases[name])
		c.Databases[name].Dsn = or(c.Databases[name].Dsn, "sqlite:"+filepath.Join(c.DataDir, name+".db"))
	}
	c.Shutdown.Grace = orDuration(c.Shutdown.Grace, 20*time.Second)
	c.Shutdown.NotReadyFor = orDuration(c.Shutdown.NotReadyFor, 0)
	c.Log.Level = or(c.Log.Level, "info")
	fillTraffic(c)
}

func fillHTTP(h *configv1.Http) {
	h.Addr = or(h.Addr, ":8080")
	h.ReadHeaderTimeout = orDuration(h.ReadHeaderTimeout, 10*time.Second)
	h.IdleTimeout = orDuration(h.IdleTimeout, 120*time.Second)
	h.ReadTimeout = orDuration(h.ReadTimeout, 30*time.Second)
	h.MaxHeaderBytes = or(h.MaxHeaderBytes, 65536)
	h.MaxHeaders = or(h.MaxHeaders, 100)
	h.MaxQueryParameters = or(h.MaxQueryParameters, 100)
	h.MaxJsonDepth = or(h.MaxJsonDepth, 64)
	h.MaxConnections = or(h.MaxConnections, 10000)
	h.MaxConnectionsPerAddress = or(h.MaxConnectionsPerAddress, 1000)
	h.MaxConnectionAge = orDuration(h.MaxConnectionAge, time.Hour)
	h.MaxConcurrentStreams = or(h.MaxConcurrentStreams, 250)
	h.HstsMaxAge = orDuration(h.HstsMaxAge, 0)
	if h.Compression == nil {
		h.Compression = &configv1.Compression{}
	}
	h.Compression.MinBytes = or(h.Compression.MinBytes, 1400)
	fillServerTLS(h.Tls)
	if h.Cors != nil {
		h.Cors.MaxAge = orDuration(h.Cors.MaxAge, 10*time.Minute)
	}
}

func fillGRPC(g *configv1.Grpc) {
	g.Addr = or(g.Addr, ":9090")
	g.MaxConcurrentStreams = or(g.MaxConcurrentStreams, 250)
	g.MaxMetadataBytes = or(g.MaxMetadataBytes, 65536)
	g.MaxConnections = or(g.MaxConnections, 10000)
	g.MaxConnectionsPerAddress = or(g.MaxConnectionsPerAddress, 1000)
	g.IdleTimeout = orDuration(g.IdleTimeout, 15*time.Minute)
	g.MaxConnectionAge = orDuration(g.MaxConnectionAge, time.Hour)
	g.MaxMessageBytes = or(g.MaxMessageBytes, 4<<20)
	g.MaxCallTime = orDuration(g.MaxCallTime, 24*time.Hour)
	fillServerTLS(g.Tls)
}

func fillServerTLS(t *configv1.ServerTls) {
	if t != nil {
		t.MinVersion = or(t.MinVersion, "1.2")
	}
}

func fillAuth(a *configv1.Auth) {
	a.MaxTokenBytes = or(a.MaxTokenBytes, 8192)
	for _, i := range a.Issuers {
		if len(i.Algorithms) == 0 {
			i.Algorithms = []string{"RS256", "ES256", "EdDSA"}
			if i.GetHmacSecretFile() != "" {
				i.Algorithms = []string{"HS256"}
			}
		}
		i.Leeway = orDuration(i.Leeway, 30*time.Second)
		i.KeysMaxAge = orDuration(i.KeysMaxAge, 24*time.Hour)
	}
	if a.ApiKeys != nil {
		a.ApiKeys.Header = or(a.ApiKeys.Header, "X-API-Key")
	}
}

// defaultClasses are the limit classes that a file need not name. Their reasons
// stand in docs/decisions/0012-defaults.md.
func defaultClasses() map[string]*configv1.LimitClass {
	perPrincipal := func(requests, burst int64) []*configv1.Rate {
		return []*configv1.Rate{{Per: "principal", Requests: requests, Burst: burst}}
	}
	return map[string]*configv1.LimitClass{
		"read":   {Rates: perPrincipal(50, 100)},
		"write":  {Rates: perPrincipal(10, 40)},
		"stream": {Rates: perPrincipal(5, 20), MaxInFlightPerCaller: 20},
	}
}

func fillLimits(l *configv1.Limits) {
	if l.Classes == nil {
		l.Classes = map[string]*configv1.LimitClass{}
	}
	for name, class := range defaultClasses() {
		if _, named := l.Classes[name]; !named {
			l.Classes[name] = class
		}
	}
	for _, class := range l.Classes {
		for _, r := range class.GetRates() {
			r.Interval = orDuration(r.Interval, time.Second)
			r.Burst = or(r.Burst, r.Requests)
		}
	}
	l.MaxKeys = or(l.MaxKeys, 1<<20)
	if l.Address == nil {
		l.Address = &configv1.AddressLimit{Requests: 200}
	}
	if !l.Address.Off {
		l.Address.Burst = or(l.Address.Burst, 2*l.Address.Requests)
	}
	if r := l.Redis; r != nil {
		r.Timeout = orDuration(r.Timeout, 20*time.Millisecond)
		r.Fallback = or(r.Fallback, "local")
		r.Prefix = or(r.Prefix, "sluice:")
	}
}

func orNew[T any](m *T) *T {
	if m == nil {
		return new(T)
	}
	return m
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func orDuration(d *durationpb.Duration, otherwise time.Duration) *durationpb.Duration {
	if d == nil {
		return durationpb.New(otherwise)
	}
	return d
}
