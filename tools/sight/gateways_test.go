package sight

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/limit/redistest"
	"github.com/sluice-gateway/sluice/gateway/shop"
)

const testService = "sluice.test.v1.TestService"

// fleet is two gateways that have every feature with a metric on between them: what
// Redis decides for one, its own memory and ledger do for the other.
type fleet struct {
	shared, alone *gatewaytest.Gateway
	key           string // an API key for the shared one
}

// backend fails calls of Echo with the id "flaky" every other time.
type backend struct {
	gatewaytest.Server
	calls atomic.Int32
}

func (b *backend) Echo(ctx context.Context, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	if r.GetId() == "flaky" && b.calls.Add(1)%2 == 1 {
		return nil, status.Error(codes.Unavailable, "every other time")
	}
	return b.Server.Echo(ctx, r)
}

// serve runs a backend of the test service and returns its address.
func serve(t *testing.T, b testv1.TestServiceServer) string {
	t.Helper()
	addr, _ := gatewaytest.Serve(t, func(r grpc.ServiceRegistrar) { testv1.RegisterTestServiceServer(r, b) })
	return addr
}

// startFleet starts the gateways, traced into a collector that takes everything.
func startFleet(t *testing.T) *fleet {
	t.Helper()
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(collector.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	key, stored, err := auth.NewAPIKey(auth.APIKey{ID: "ci", Owner: "ada", Scopes: []string{"users.read"}, LimitClass: "batch"})
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{key: key}
	opts := []gateway.Option{
		gateway.WithServices(append(shop.Services(), gatewaytest.TestService(nil))...),
		gateway.WithHTTPServices(shop.HTTPServices()...), gateway.WithGetenv(os.Getenv),
	}
	redis := redistest.Start(t)
	f.shared = gatewaytest.Start(t, func(c *configv1.Config) {
		remoteService(t, c)
		caches(c)
		c.Limits.Redis = &configv1.RedisStore{Url: redis.URL(), Timeout: durationpb.New(time.Second), Fallback: "local"}
		c.Limits.Classes["batch"] = &configv1.LimitClass{Quotas: []*configv1.Quota{{Per: "api_key", Requests: 1_000_000, Period: "month"}}}
		c.Auth.ApiKeys = &configv1.ApiKeys{Header: "X-API-Key", Keys: []*configv1.ApiKey{
			{Id: stored.ID, Hash: stored.Hash, Owner: stored.Owner, Scopes: stored.Scopes, LimitClass: stored.LimitClass}}}
		c.Auth.Issuers = append(c.Auth.Issuers, issuer(t))
	}, opts...)
	f.alone = gatewaytest.Start(t, func(c *configv1.Config) {
		cert, private := certificate(t)
		c.Grpc.Tls = &configv1.ServerTls{CertFile: cert, KeyFile: private}
		c.Limits.Classes["read"].Quotas = []*configv1.Quota{{Per: "principal", Requests: 1_000_000, Period: "day"}}
		// Two services at one target, which is not there.
		at := &configv1.Upstream{Target: "127.0.0.1:1", Tls: &configv1.Tls{CaFile: cert, CertFile: cert, KeyFile: private}}
		c.Upstreams = map[string]*configv1.Upstream{"shop.order.v1.OrderService": at, "shop.profile.v1.ProfileService": at}
		c.Limits.Address = &configv1.AddressLimit{Requests: 1_000_000}
	}, opts...)
	return f
}

// remoteService has two backends, a canary that DNS finds, a shadow, and failures on
// purpose for who asks for them.
func remoteService(t *testing.T, c *configv1.Config) {
	t.Helper()
	second := durationpb.New(time.Second)
	_, port, err := net.SplitHostPort(serve(t, &backend{}))
	if err != nil {
		t.Fatal(err)
	}
	c.Discovery = &configv1.Discovery{DnsInterval: second}
	c.Upstreams = map[string]*configv1.Upstream{testService: {
		Endpoints: []*configv1.Endpoint{{Address: serve(t, &backend{})}, {Address: serve(t, &backend{})}},
		Canaries: []*configv1.Canary{{Name: "next", Target: "dns:///localhost:" + port,
			Match: []*configv1.CanaryMatch{{Header: "X-Canary", Value: "next"}}}},
		Shadow: &configv1.Shadow{Target: serve(t, &backend{}), Percent: 100, Methods: []string{"ListNames"}},
		Resilience: &configv1.Resilience{Faults: []*configv1.Fault{
			{Abort: "UNAVAILABLE", Percent: 100, Header: "X-Fault", Value: "abort"}, {Delay: durationpb.New(time.Millisecond), Percent: 100, Header: "X-Fault", Value: "delay"}}},
	}}
}

// caches keeps one RPC for a minute, and tries another one again.
func caches(c *configv1.Config) {
	minute := durationpb.New(time.Minute)
	c.Methods = map[string]*configv1.MethodOverride{
		testService + "/Echo":     {Retry: &policyv1.Retry{MaxAttempts: 3, Codes: []string{"UNAVAILABLE"}}},
		testService + "/GetNamed": {Cache: &policyv1.Cache{Scope: policyv1.CacheScope_CACHE_SCOPE_PUBLIC, Ttl: minute}},
	}
}

// issuer is one whose keys can be fetched.
func issuer(t *testing.T) *configv1.Issuer {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"one","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`)
	}))
	t.Cleanup(s.Close)
	return &configv1.Issuer{Issuer: "https://issuer.example", Audiences: []string{"sluice"}, Algorithms: []string{"EdDSA"}, Keys: &configv1.Issuer_JwksUrl{JwksUrl: s.URL}}
}

// certificate writes a self-signed one.
func certificate(t *testing.T) (cert, private string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, private = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	err = errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return cert, private
}

// use sends a little of everything, once: each metric that waits for an event has
// had one afterwards.
func (f *fleet) use(t *testing.T) {
	t.Helper()
	const all = "users.read users.write orders.read profiles.read admin"
	for _, r := range []struct {
		g            *gatewaytest.Gateway
		method, path string
		header       []string // a name and a value
		want         int
	}{
		{f.shared, "GET", "/v1/users/ada", nil, 200},
		{f.shared, "GET", "/v1/users/ada/overview", nil, 200},
		{f.shared, "GET", "/v1/users/nobody-of-that-name", nil, 404},
		{f.shared, "GET", "/v1/users/ada", []string{"Authorization", "Bearer nonsense"}, 401}, // denied
		{f.shared, "GET", "/v1/users/ada", []string{"X-API-Key", f.key}, 200},
		{f.shared, "GET", "/v1/payments/ada", nil, 200},
		{f.shared, "GET", "/v1/users/ada?" + strings.Repeat("x=1&", 2000), nil, 400}, // refused by a bound
		{f.shared, "GET", "/test/v1/echo/a", nil, 200},
		{f.shared, "GET", "/test/v1/echo/a", []string{"X-Canary", "next"}, 200},
		{f.shared, "GET", "/test/v1/echo/a", []string{"X-Fault", "abort"}, 503},
		{f.shared, "GET", "/test/v1/echo/a", []string{"X-Fault", "delay"}, 200},
		{f.shared, "GET", "/test/v1/echo/flaky", nil, 200}, // retried
		{f.shared, "GET", "/test/v1/echo/a?fail_code=13", nil, 500},
		{f.shared, "GET", "/test/v1/names?count=3", nil, 200},     // shadowed
		{f.shared, "GET", "/test/v1/shelves/1/books/1", nil, 200}, // kept
		{f.shared, "GET", "/test/v1/shelves/1/books/1", nil, 200},
		{f.alone, "GET", "/v1/users/ada", nil, 200},
	} {
		res := f.ask(t, r.g, r.method, r.path, r.g.Token(t, "ada", all), r.header)
		if res != r.want {
			t.Errorf("%s %.80s %q: %d, want %d", r.method, r.path, r.header, res, r.want)
		}
	}
	ctx := f.shared.As(t, "ada", all)
	if _, err := testv1.NewTestServiceClient(f.shared.Conn).Echo(ctx, &testv1.EchoRequest{Id: "a"}); err != nil {
		t.Error(err)
	}
	if _, err := testv1.NewTestServiceClient(f.shared.Conn).Echo(ctx, &testv1.EchoRequest{Id: "a", FailCode: 13}); status.Code(err) != codes.Internal {
		t.Error(err)
	}
}

func (f *fleet) ask(t *testing.T, g *gatewaytest.Gateway, method, path, token string, header []string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, g.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if len(header) == 2 {
		if header[0] == "X-API-Key" {
			req.Header.Del("Authorization")
		}
		req.Header.Set(header[0], header[1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode
}
