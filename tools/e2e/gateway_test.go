package e2e

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// object is JSON, and so YAML, in the making.
type object = map[string]any

// setup says how a gateway is started.
type setup struct {
	// dir is its data directory; empty means a new one.
	dir string
	// config is its configuration file. Unless it names limits, they are far above
	// what tests send.
	config object
	// defaults leaves the file out: the gateway is as it comes.
	defaults bool
	// env is added to its environment.
	env []string
	// issuer of its tokens; nil means --demo.
	issuer *issuer
}

// gateway is `sluice serve` as a process.
type gateway struct {
	*process
	setup
	url, grpcAddr, admin string
	conn                 *grpc.ClientConn
}

const gatewayReady = `(?s)REST +(https?://\S+).*gRPC +(\S+).*admin +(http://\S+).*\n$`

func startGateway(t *testing.T, s setup) *gateway {
	t.Helper()
	if s.dir == "" {
		s.dir = t.TempDir()
	}
	args := []string{"serve"}
	if s.issuer == nil {
		args = append(args, "--demo")
	}
	if !s.defaults {
		file := filepath.Join(t.TempDir(), "sluice.yaml")
		writeJSON(t, file, s.file())
		args = append(args, "--config", file)
	}
	env := append([]string{
		"SLUICE_HTTP_ADDR=127.0.0.1:0", "SLUICE_GRPC_ADDR=127.0.0.1:0", "SLUICE_ADMIN_ADDR=127.0.0.1:0", "SLUICE_DATA_DIR=" + s.dir,
	}, s.env...)
	g := &gateway{process: start(t, env, "sluice", args...), setup: s}
	at := g.ready(t, gatewayReady)
	g.url, g.grpcAddr, g.admin = at[0], at[1], at[2]
	g.conn = dial(t, g.grpcAddr)
	return g
}

// file is the content of the configuration file.
func (s setup) file() object {
	config := object{"limits": unreachable()}
	maps.Copy(config, s.config)
	if s.issuer != nil {
		config["auth"] = s.issuer.config()
	}
	return config
}

// unreachable are limits that no test of something else comes near.
func unreachable() object {
	const most = 1_000_000_000 // The largest that the configuration takes.
	classes := object{}
	for _, name := range []string{"read", "write", "stream"} {
		classes[name] = object{"rates": []object{{"per": "principal", "requests": most, "burst": most}}}
	}
	return object{"address": object{"requests": most, "burst": most}, "classes": classes}
}

func writeJSON(t *testing.T, file string, v any) {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// all is what ada may want of the shop.
const all = "users.read users.write orders.read orders.write profiles.write"

// token is one for ada, of `sluice token` or of the gateway's issuer.
func (g *gateway) token(t *testing.T) string {
	t.Helper()
	if g.issuer != nil {
		return g.issuer.mint(t, "ada", all)
	}
	cmd := exec.Command(filepath.Join(programs, "sluice"), "token", "--subject", "ada", "--scope", all)
	cmd.Env = append(cleanEnv(), "SLUICE_DATA_DIR="+g.dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("sluice token: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// bounded returns a context that ends before the test runs forever.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// as returns a bounded context that calls the gRPC edge with a token.
func as(t *testing.T, token string) context.Context {
	t.Helper()
	return withToken(bounded(t), token)
}

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// answer is one of the REST edge.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// send makes a request of the REST edge. Header is a list of names and values.
func (g *gateway) send(ctx context.Context, verb, path, token string, body io.Reader, header ...string) (answer, error) {
	res, err := g.open(ctx, verb, path, token, body, header...)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, b}, err
}

// open is send, without reading the answer.
func (g *gateway) open(ctx context.Context, verb, path, token string, body io.Reader, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, verb, g.url+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return http.DefaultClient.Do(req)
}

// rest is send for requests that are answered.
func (g *gateway) rest(t *testing.T, verb, path, token, body string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	a, err := g.send(ctx, verb, path, token, r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// atAdmin gets a page of the operators' listener.
func (g *gateway) atAdmin(t *testing.T, path string) answer {
	t.Helper()
	admin := *g
	admin.url = g.admin
	return admin.rest(t, "GET", path, "", "")
}

// want fails unless the answer has the status, and reads its body into v.
func (a answer) want(t *testing.T, status int, v any) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// grpcurl runs the real one against the gRPC edge, which tells it the types by
// reflection. It returns what was printed, and the exit code: 64 plus the gRPC
// code where the call has failed.
func (g *gateway) grpcurl(t *testing.T, token string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	flags := []string{"-plaintext", "-connect-timeout", "10", "-max-time", "30"}
	if token != "" {
		flags = append(flags, "-H", "authorization: Bearer "+token)
	}
	// Flags, address, the rest: -d and its data belong before the address.
	if len(args) > 1 && args[0] == "-d" {
		flags, args = append(flags, args[:2]...), args[2:]
	}
	cmd := exec.Command(filepath.Join(programs, "grpcurl"), append(append(flags, g.grpcAddr), args...)...)
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), complaint.String(), cmd.ProcessState.ExitCode()
}
