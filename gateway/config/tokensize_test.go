package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/config"
)

// TestTokensFitIntoHeaders: a longer token than a listener lets through is a mistake, and
// a listener that is stricter than the default bound of tokens is none.
func TestTokensFitIntoHeaders(t *testing.T) {
	for text, want := range map[string]string{
		"auth: {max_token_bytes: 32768}\n":                                                                     "",
		"auth: {max_token_bytes: 61440}\n":                                                                     "",
		"auth: {max_token_bytes: 61441}\n":                                                                     "http.max_header_bytes (65536)",
		"auth: {max_token_bytes: 32768}\nhttp: {max_header_bytes: 32768}\n":                                    "http.max_header_bytes (32768)",
		"auth: {max_token_bytes: 32768}\ngrpc: {max_metadata_bytes: 32768}\n":                                  "grpc.max_metadata_bytes (32768)",
		"auth: {max_token_bytes: 65536}\nhttp: {max_header_bytes: 69632}\ngrpc: {max_metadata_bytes: 69632}\n": "",
		"auth: {max_token_bytes: 65537}\n":                                                                     "max_token_bytes",
		"http: {max_header_bytes: 8192}\n":                                                                     "",
	} {
		file := filepath.Join(t.TempDir(), "sluice.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := config.Load(file, func(string) string { return "" })
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
