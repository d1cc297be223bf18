package shop_test

import (
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/services/kit/dbtest"
	"github.com/sluice-gateway/sluice/services/shop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestOpen opens all three on one database, as they may share one.
func TestOpen(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		dsn := e.DSN(t)
		for _, name := range shop.Names() {
			s, err := shop.Open(t.Context(), name, dsn, nil)
			if err != nil {
				t.Fatal(err)
			}
			if want := "shop." + name + ".v1."; !strings.HasPrefix(s.Name, want) {
				t.Errorf("%s is named %s, want %s…", name, s.Name, want)
			}
			for range 2 {
				if err := s.Seed(t.Context()); err != nil {
					t.Errorf("seed %s: %v", name, err)
				}
			}
			if err := s.Check(t.Context()); err != nil {
				t.Errorf("check %s: %v", name, err)
			}
			s.Drain()
			if err := s.Close(); err != nil {
				t.Errorf("close %s: %v", name, err)
			}
			if err := s.Check(t.Context()); err == nil {
				t.Errorf("%s is well though it is closed", name)
			}
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	for _, tt := range []struct{ name, dsn, want string }{
		{"cart", "sqlite:" + filepath.Join(t.TempDir(), "x.db"), "user, order, profile"},
		{"user", "mysql://x", "sqlite:FILE"},
		{"order", "sqlite:" + t.TempDir(), "open order service"},
	} {
		if _, err := shop.Open(t.Context(), tt.name, tt.dsn, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Open %s on %s = %v, want an error with %q", tt.name, tt.dsn, err, tt.want)
		}
	}
}
