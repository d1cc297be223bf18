package gateway_test

import (
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/shop"
)

// TestFailedStartLeaksNothing: a program that tries again and again to build a
// gateway, wherever it fails, keeps no goroutines and no open databases.
func TestFailedStartLeaksNothing(t *testing.T) {
	quota := func(c *configv1.Config) {
		c.Limits.Classes["batch"] = &configv1.LimitClass{Quotas: []*configv1.Quota{{Per: "principal", Requests: 10, Period: "day"}}}
	}
	for name, tc := range map[string]struct {
		edit func(*configv1.Config)
		want string
	}{
		"Redis's password cannot be read": {func(c *configv1.Config) {
			c.Limits.Redis = &configv1.RedisStore{Url: "redis://127.0.0.1:1", PasswordFile: "missing", Timeout: durationpb.New(1e9), Fallback: "local"}
		}, "redis.password_file"},
		"Redis's address is none": {func(c *configv1.Config) {
			c.Limits.Redis = &configv1.RedisStore{Url: "redis://127.0.0.1:x", Timeout: durationpb.New(1e9), Fallback: "local"}
		}, "limits: redis"},
		"a key's class is unknown": {func(c *configv1.Config) {
			c.Auth.ApiKeys = &configv1.ApiKeys{Header: "X-API-Key", Keys: []*configv1.ApiKey{{Id: "a", LimitClass: "nope"}}}
		}, "nope"},
		"the third database cannot be opened": {func(c *configv1.Config) {
			c.Databases["profile"].Dsn = "sqlite:" + filepath.Join(c.GetDataDir(), "quotas.db", "x.db") // In a file.
		}, "shop.profile.v1.ProfileService"},
		"an issuer's key cannot be read": {func(c *configv1.Config) { c.Auth = issuerOf("missing.pem") }, "missing.pem"},
		"a certificate cannot be read": {func(c *configv1.Config) {
			c.Http.Tls = &configv1.ServerTls{CertFile: "missing.pem", KeyFile: "missing.pem"}
		}, "http.tls"},
	} {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			for range 5 {
				c := gatewaytest.Config(t)
				quota(c)
				tc.edit(c)
				g, err := gateway.New(c, quiet(gateway.WithDemo(), gateway.WithServices(shop.Services()...))...)
				if err == nil || g != nil || !strings.Contains(err.Error(), tc.want) {
					t.Fatalf("got %v, %v; want an error with %q", g, err, tc.want)
				}
			}
			if err := left(before); err != nil {
				t.Error(err)
			}
		})
	}
}
