package gateway_test

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/rest"
)

var downDesc = &grpc.StreamDesc{StreamName: "Down", ServerStreams: true}

// quiet are the options of gateways that are not to write to standard error or
// read the environment.
func quiet(opts ...gateway.Option) []gateway.Option {
	return append([]gateway.Option{gateway.WithLogger(slog.New(slog.DiscardHandler)), gateway.WithGetenv(func(string) string { return "" })}, opts...)
}

// made is a service of one method, described as a test needs it.
func made(t *testing.T, name string, rule *policyv1.MethodRule, http *annotations.HttpRule) gateway.Service {
	t.Helper()
	options := &descriptorpb.MethodOptions{}
	if rule != nil {
		proto.SetExtension(options, policyv1.E_Method, rule)
	}
	if http != nil {
		proto.SetExtension(options, annotations.E_Http, http)
	}
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("made/" + name + ".proto"), Package: proto.String("made"), Syntax: proto.String("proto3"),
		Dependency: []string{"sluice/test/v1/test.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String(name), Method: []*descriptorpb.MethodDescriptorProto{{
			Name: proto.String("Do"), InputType: proto.String(".sluice.test.v1.NothingRequest"), OutputType: proto.String(".sluice.test.v1.EchoResponse"), Options: options,
		}}}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return gateway.Service{Descriptor: fd.Services().Get(0)}
}

func get(path string) *annotations.HttpRule {
	return &annotations.HttpRule{Pattern: &annotations.HttpRule_Get{Get: path}}
}

func public() *policyv1.MethodRule {
	return &policyv1.MethodRule{Require: &policyv1.Require{Public: true}}
}

// calls are handlers, as generated ones register, that call the methods named.
func calls(routes map[string]string) rest.Register {
	return func(_ context.Context, mux *runtime.ServeMux, cc grpc.ClientConnInterface) error {
		for path, method := range routes {
			if err := mux.HandlePath("GET", path, handle(cc, method)); err != nil {
				return err
			}
		}
		return nil
	}
}

// swapped is the test service's client with two methods exchanged.
type swapped struct{ testv1.TestServiceClient }

func (s swapped) GetNamed(ctx context.Context, _ *testv1.GetNamedRequest, o ...grpc.CallOption) (*testv1.EchoResponse, error) {
	return s.Echo(ctx, &testv1.EchoRequest{}, o...)
}

// TestStartRefusals: whatever is wrong stops the start, and is said in words
// that name it.
func TestStartRefusals(t *testing.T) {
	test := gatewaytest.TestService(nil)
	atUpstream := func(name string) func(*configv1.Config) {
		return func(c *configv1.Config) {
			if c.Upstreams == nil {
				c.Upstreams = map[string]*configv1.Upstream{}
			}
			c.Upstreams[name] = &configv1.Upstream{Target: "127.0.0.1:1"}
		}
	}
	withHandlers := func(s gateway.Service, h rest.Register) gateway.Service {
		s.Handlers = h
		return s
	}
	one := made(t, "One", public(), get("/made/{inner.owner}"))
	for name, tc := range map[string]struct {
		services []gateway.Service
		edit     func(*configv1.Config)
		want     []string
	}{
		"no services":             {nil, nil, []string{"no services", "gateway.WithServices"}},
		"a method without a rule": {[]gateway.Service{test, made(t, "Bare", nil, nil)}, nil, []string{"made/Bare.proto", "made.Bare.Do has no rule", "sluice.policy.v1.method"}},
		"a service twice":         {[]gateway.Service{test, test}, nil, []string{"sluice.test.v1.TestService/Echo is registered twice"}},
		"routes that collide":     {[]gateway.Service{withHandlers(one, calls(map[string]string{"/made/{inner.owner}": "/made.One/Do"})), withHandlers(made(t, "Two", public(), get("/made/{inner.inner.owner}")), calls(map[string]string{"/made/{inner.inner.owner}": "/made.Two/Do"}))}, func(c *configv1.Config) { atUpstream("made.One")(c); atUpstream("made.Two")(c) }, []string{"GET", "/made/{inner.owner}", "/made/{inner.inner.owner}"}},
		"a path that cannot be":   {[]gateway.Service{made(t, "Odd", public(), get("made/{"))}, atUpstream("made.Odd"), []string{"made/Odd.proto", "route of made.Odd.Do"}},
		"routes without handlers": {[]gateway.Service{one}, atUpstream("made.One"), []string{"service made.One has 1 routes but no generated handlers"}},
		"handlers too few":        {[]gateway.Service{withHandlers(one, calls(nil))}, atUpstream("made.One"), []string{"1 routes but 0 generated handlers", "make generate"}},
		"a handler that lies":     {[]gateway.Service{withHandlers(one, calls(map[string]string{"/made/{inner.owner}": "/made.One/Other"}))}, atUpstream("made.One"), []string{"GET /made/{inner.owner}", "/made.One/Other", "not /made.One/Do"}},
		"a swapped client": {[]gateway.Service{withHandlers(test, rest.Handlers(testv1.RegisterTestServiceHandlerClient, func(cc grpc.ClientConnInterface) testv1.TestServiceClient {
			return swapped{testv1.NewTestServiceClient(cc)}
		}))}, nil, []string{"/test/v1/{name=shelves/*/books/**}", `calls "/sluice.test.v1.TestService/Echo"`, "GetNamed"}},
		"handlers of another": {[]gateway.Service{withHandlers(one, test.Handlers)}, atUpstream("made.One"), []string{"made.One", "generated handlers"}},
		"nowhere to run":      {[]gateway.Service{withHandlers(one, calls(map[string]string{"/made/{inner.owner}": "/made.One/Do"}))}, nil, []string{"made.One", "upstreams"}},
		"an unknown upstream": {[]gateway.Service{test}, atUpstream("shop.typo.v1.UserService"), []string{`upstreams: shop.typo.v1.UserService: unknown service`}},
		"a bad target":        {[]gateway.Service{test}, func(c *configv1.Config) { c.Upstreams = upstreams("nope://x\x00") }, []string{testService, "upstream target"}},
		"a CA file that is none": {[]gateway.Service{test}, func(c *configv1.Config) {
			c.Upstreams = upstreams("127.0.0.1:1")
			c.Upstreams[testService].Tls = &configv1.Tls{CaFile: "nowhere.pem"}
		}, []string{testService, "ca_file", "nowhere.pem"}},
		"an unknown override":        {[]gateway.Service{test}, func(c *configv1.Config) { override(c, "Ehco", &configv1.MethodOverride{Deadline: seconds(1)}) }, []string{`methods: sluice.test.v1.TestService/Ehco: unknown method`, `did you mean "sluice.test.v1.TestService/Echo"?`}},
		"an impossible override":     {[]gateway.Service{test}, func(c *configv1.Config) { override(c, "Down", &configv1.MethodOverride{Deadline: seconds(1)}) }, []string{"sluice.test.v1.TestService/Down", "stream_max_age"}},
		"a default beyond a ceiling": {[]gateway.Service{test}, func(c *configv1.Config) { c.Defaults.MaxRequestBytes = 4<<20 + 1 }, []string{"defaults: max_request_bytes: 4194305 is more than grpc.max_message_bytes, 4194304"}},
		"an override beyond a ceiling": {[]gateway.Service{test}, func(c *configv1.Config) {
			override(c, "Down", &configv1.MethodOverride{StreamMaxAge: seconds(86401)})
			override(c, "Echo", &configv1.MethodOverride{Deadline: seconds(86402)})
		}, []string{testService + "/Down: stream_max_age: 24h0m1s is more than grpc.max_call_time, 24h0m0s", testService + "/Echo: deadline: 24h0m2s is more"}},
		"a rule beyond a ceiling": {[]gateway.Service{test}, func(c *configv1.Config) {
			c.Grpc.MaxCallTime, c.Defaults.Deadline, c.Defaults.StreamMaxAge = seconds(2.5), seconds(1), seconds(1)
		}, []string{"grpc: max_call_time: 2.5s is less than the stream_max_age of 3s in the rule of " + testService}},
		"keys that cannot be read": {[]gateway.Service{test}, func(c *configv1.Config) { c.Auth = issuerOf("missing.pem") }, []string{"auth.issuers: https://issuer.test/: ", "missing.pem"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := gatewaytest.Config(t)
			if tc.edit != nil {
				tc.edit(cfg)
			}
			g, err := gateway.New(cfg, quiet(gateway.WithDemo(), gateway.WithServices(tc.services...))...)
			if err == nil || g != nil {
				t.Fatalf("got %v, %v", g, err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q: %v", want, err)
				}
			}
		})
	}
}

// TestNoIssuer: without --demo nobody could call anything, and the message
// says what to do.
func TestNoIssuer(t *testing.T) {
	_, err := gateway.New(gatewaytest.Config(t), quiet(gateway.WithServices(gatewaytest.TestService(nil)))...)
	if err == nil {
		t.Fatal("started")
	}
	for _, want := range []string{"issuer", "auth:", "jwks_url", "SLUICE_CONFIG", "--demo"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("does not say %q: %v", want, err)
		}
	}
}

// TestAddressInUse names the setting and its variable.
func TestAddressInUse(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	addr := taken.Addr().String()
	for setting, edit := range map[string]func(*configv1.Config){
		"http.addr (SLUICE_HTTP_ADDR)":   func(c *configv1.Config) { c.Http.Addr = addr },
		"grpc.addr (SLUICE_GRPC_ADDR)":   func(c *configv1.Config) { c.Grpc.Addr = addr },
		"admin.addr (SLUICE_ADMIN_ADDR)": func(c *configv1.Config) { c.Admin.Addr = addr },
	} {
		cfg := gatewaytest.Config(t)
		edit(cfg)
		g, err := gateway.New(cfg, quiet(gateway.WithDemo(), gateway.WithServices(gatewaytest.TestService(nil)))...)
		if err != nil {
			t.Fatal(err)
		}
		err = g.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), setting) || !strings.Contains(err.Error(), addr) {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

func issuerOf(file string) *configv1.Auth {
	return &configv1.Auth{Issuers: []*configv1.Issuer{{Issuer: "https://issuer.test/", Audiences: []string{"api"}, Algorithms: []string{"EdDSA"},
		Keys: &configv1.Issuer_PublicKeys{PublicKeys: &configv1.PublicKeys{Files: []string{file}}}}}}
}

// startWithIssuer runs a gateway as in production, without --demo, and returns
// a connection to its gRPC edge.
func startWithIssuer(t *testing.T) *grpc.ClientConn {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "issuer.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := gatewaytest.Config(t)
	cfg.Auth = issuerOf(file)
	ready := make(chan struct{})
	g, err := gateway.New(cfg, quiet(gateway.WithServices(gatewaytest.TestService(nil)), gateway.OnReady(func(*gateway.Gateway) { close(ready) }))...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-ready
	return gatewaytest.Dial(t, g.Addrs().GRPC)
}

// handle is a handler as the generator writes it, in the least words.
func handle(cc grpc.ClientConnInterface, method string) runtime.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request, _ map[string]string) {
		_ = cc.Invoke(r.Context(), method, &testv1.NothingRequest{}, &testv1.EchoResponse{})
	}
}
