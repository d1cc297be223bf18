package gateway_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/config"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
)

// TestReloadWithinTheCeilings: a method takes larger messages than any did at the start,
// on connections that were open before. What is beyond the ceiling of the start is refused
// with its place, whatever the file says of the ceiling now.
func TestReloadWithinTheCeilings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	write := func(ceiling, echo string) {
		t.Helper()
		text := "grpc: {max_message_bytes: " + ceiling + "}\nmethods:\n  " + testService + "/Echo:\n    max_request_bytes: " + echo + "\n"
		if err := os.WriteFile(file+".next", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".next", file); err != nil { // The gateway follows it.
			t.Fatal(err)
		}
	}
	write("8388608", "1000000")
	env := map[string]string{"SLUICE_HTTP_ADDR": "127.0.0.1:0", "SLUICE_GRPC_ADDR": "127.0.0.1:0", "SLUICE_ADMIN_ADDR": "127.0.0.1:0", "SLUICE_DATA_DIR": t.TempDir()}
	source, err := config.Open(file, func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := source.Load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	g := gatewaytest.Run(t, cfg, gateway.WithServices(gatewaytest.TestService(nil)), gateway.WithSource(source))
	c, ctx := testv1.NewTestServiceClient(g.Conn), g.As(t, "ada", "")
	large := &testv1.EchoRequest{FailMessage: strings.Repeat("x", 6<<20)}
	_, err = c.Echo(ctx, large)
	wantCode(t, err, codes.ResourceExhausted, "larger than the 1000000 bytes")

	write("8388608", "8388608")
	if err := g.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Echo(ctx, large); err != nil {
		t.Errorf("a message that the method takes now: %v", err)
	}

	write("16777216", "8388609")
	want := file + ":4:5: methods: " + testService + "/Echo: max_request_bytes: 8388609 is more than grpc.max_message_bytes, 8388608"
	if err := g.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v\nwant %s", err, want)
	}
	if _, err := c.Echo(ctx, large); err != nil {
		t.Errorf("after a reload that was refused: %v", err)
	}
}
