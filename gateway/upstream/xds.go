//go:build xds

package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	_ "google.golang.org/grpc/xds" // The resolver and the balancers of xds:///.

	"github.com/sluice-gateway/sluice/gateway/discovery"
)

// xdsTarget is gRPC's own target of xds:///name. grpc-go reads where the control
// plane is from its bootstrap file, and says what is wrong with it to the first call
// only: we look before.
func xdsTarget(t discovery.Target) (string, error) {
	if err := checkBootstrap(os.Getenv("GRPC_XDS_BOOTSTRAP"), os.Getenv("GRPC_XDS_BOOTSTRAP_CONFIG")); err != nil {
		return "", fmt.Errorf("target xds:///%s: %w", t.Name, err)
	}
	return "xds:///" + t.Name, nil
}

func checkBootstrap(file, inline string) error {
	raw, from := []byte(inline), "GRPC_XDS_BOOTSTRAP_CONFIG"
	switch {
	case file != "":
		from = "GRPC_XDS_BOOTSTRAP (" + file + ")"
		var err error
		if raw, err = os.ReadFile(file); err != nil { //nolint:gosec // The operator names it.
			return fmt.Errorf("GRPC_XDS_BOOTSTRAP: %w", err)
		}
	case inline == "":
		return errors.New("set GRPC_XDS_BOOTSTRAP to the file that says where the control plane is (gRFC A27), or GRPC_XDS_BOOTSTRAP_CONFIG to its content")
	}
	var b struct {
		Servers []struct {
			URI   string `json:"server_uri"`
			Creds []struct {
				Type string `json:"type"`
			} `json:"channel_creds"`
		} `json:"xds_servers"`
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		return fmt.Errorf("%s is not a bootstrap in JSON: %w", from, err)
	}
	if len(b.Servers) == 0 {
		return fmt.Errorf("%s names no xds_servers", from)
	}
	for i, s := range b.Servers {
		if s.URI == "" || len(s.Creds) == 0 {
			return fmt.Errorf("%s: xds_servers[%d] needs server_uri and channel_creds", from, i)
		}
	}
	return nil
}
