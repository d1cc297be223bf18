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
// something: an upstream's tls and a method override's values.
func fillDefaults(c *configv1.Config) {
	c.Http, c.Grpc, c.Admin = orNew(c.Http), orNew(c.Grpc), orNew(c.Admin)
	c.Auth, c.Assertion, c.Defaults = orNew(c.Auth), orNew(c.Assertion), orNew(c.Defaults)
	c.Shutdown, c.Log = orNew(c.Shutdown), orNew(c.Log)

	c.Http.Addr = or(c.Http.Addr, ":8080")
	c.Http.ReadHeaderTimeout = orDuration(c.Http.ReadHeaderTimeout, 10*time.Second)
	c.Http.IdleTimeout = orDuration(c.Http.IdleTimeout, 120*time.Second)
	c.Http.ReadTimeout = orDuration(c.Http.ReadTimeout, 30*time.Second)
	c.Http.MaxHeaderBytes = or(c.Http.MaxHeaderBytes, 65536)
	c.Grpc.Addr = or(c.Grpc.Addr, ":9090")
	c.Grpc.MaxConcurrentStreams = or(c.Grpc.MaxConcurrentStreams, 250)
	c.Admin.Addr = or(c.Admin.Addr, "127.0.0.1:9901")
	c.DataDir = or(c.DataDir, "data")

	for _, i := range c.Auth.Issuers {
		if len(i.Algorithms) == 0 {
			i.Algorithms = []string{"RS256", "ES256", "EdDSA"}
			if i.GetHmacSecretFile() != "" {
				i.Algorithms = []string{"HS256"}
			}
		}
		i.Leeway = orDuration(i.Leeway, 30*time.Second)
	}
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
