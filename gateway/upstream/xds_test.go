//go:build xds

package upstream

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBootstrap: what is wrong with the bootstrap stops the start, and is named.
func TestBootstrap(t *testing.T) {
	const good = `{"xds_servers":[{"server_uri":"127.0.0.1:1","channel_creds":[{"type":"insecure"}]}],"node":{"id":"sluice"}}`
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	for name, tc := range map[string]struct{ content, want string }{
		"no JSON": {"{", "not a bootstrap in JSON"}, "no servers": {"{}", "names no xds_servers"},
		"no credentials": {`{"xds_servers":[{"server_uri":"x:1"}]}`, "needs server_uri and channel_creds"}, "good": {good, ""},
	} {
		if err := os.WriteFile(file, []byte(tc.content), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("GRPC_XDS_BOOTSTRAP", file)
		err := CheckTarget("xds:///users")
		if (err == nil) != (tc.want == "") || err != nil && (!strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), file)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	target, err := Remote(RemoteOptions{Target: "xds:///users"})
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Close(); err != nil {
		t.Error(err)
	}
	t.Setenv("GRPC_XDS_BOOTSTRAP", "")
	if err := CheckTarget("xds:///users"); err == nil || !strings.Contains(err.Error(), "set GRPC_XDS_BOOTSTRAP") {
		t.Errorf("without any: %v", err)
	}
	t.Setenv("GRPC_XDS_BOOTSTRAP", "nowhere.json")
	if err := CheckTarget("xds:///users"); err == nil || !strings.Contains(err.Error(), "nowhere.json") {
		t.Errorf("no such file: %v", err)
	}
}
