//go:build !xds

package upstream

import (
	"fmt"

	"github.com/sluice-gateway/sluice/gateway/discovery"
)

// xdsTarget is gRPC's own target of xds:///name. This binary has none.
func xdsTarget(t discovery.Target) (string, error) {
	return "", fmt.Errorf("target xds:///%s: this binary is built without xDS: build it with -tags xds", t.Name)
}
