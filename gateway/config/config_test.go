package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

var update = flag.Bool("update", false, "write the golden files")

func noEnv(string) string { return "" }

func env(pairs ...string) func(string) string {
	return func(key string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == key {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// asJSON is a stable text of a configuration.
func asJSON(t *testing.T, c *configv1.Config) []byte {
	t.Helper()
	raw, err := protojson.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), '\n')
}

func TestBadFiles(t *testing.T) {
	t.Chdir(filepath.Join("testdata", "bad"))
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files, err %v", len(files), err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			c, err := Load(file, noEnv)
			if err == nil || c != nil {
				t.Fatalf("accepted as %v", c)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("tells a password")
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".golden", []byte(err.Error()+"\n"))
			if checked := Check(file); checked == nil || checked.Error() != err.Error() {
				t.Errorf("Check says %v", checked)
			}
		})
	}
}

func TestHugeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "huge.yaml")
	line := "# " + strings.Repeat("x", 1021) + "\n"
	if err := os.WriteFile(path, []byte(strings.Repeat(line, 1024)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err != nil {
		t.Errorf("a MiB: %v", err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat(line, 1024)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err == nil || !strings.Contains(err.Error(), "larger than 1048576 bytes") {
		t.Errorf("a byte more: %v", err)
	}
}

func TestDeepFile(t *testing.T) {
	for _, open := range []string{"[", "{", "- ", "a: {"} {
		path := filepath.Join(t.TempDir(), "deep.yaml")
		if err := os.WriteFile(path, []byte(strings.Repeat(open, 200_000)), 0o600); err != nil {
			t.Fatal(err)
		}
		if Check(path) == nil {
			t.Errorf("%q many times over was accepted", open)
		}
	}
}

func TestNoFile(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "nope.yaml"), noEnv); err == nil || !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
	if _, err := Load(t.TempDir(), noEnv); err == nil {
		t.Error("a directory was accepted")
	}
	if Check("") == nil {
		t.Error("Check of no file says it is good")
	}
}

func TestDefaults(t *testing.T) {
	c, err := Load("", noEnv)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", "defaults.golden"), asJSON(t, c))
	complete(t, c)
	for _, content := range []string{"", "\n\n", "# nothing\n", "---\n", "{}\n", "~\n", "http:\ngrpc: {}\n", "\ufeff# a mark first\n"} {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Load(path, noEnv)
		if err != nil || !proto.Equal(got, c) {
			t.Errorf("%q: %v, err %v", content, got, err)
		}
	}
}

// optional names what may stay unset, below sluice.config.v1: its absence, or
// its zero value, means something.
const optional = `
	Config.upstreams Config.methods Config.client_address
	Http.tls Http.cors Http.health_path Grpc.tls Grpc.reflection Log.access_off
	ServerTls.client_ca_file ServerTls.require_client_cert Cors.allow_credentials Cors.allowed_headers
	ClientAddress.trusted_proxies ClientAddress.header ClientAddress.proxy_protocol
	Compression.off Auth.issuers Auth.api_keys Auth.client_certificates ApiKeys.keys ApiKeys.file
	Issuer.jwks_url Issuer.public_keys Issuer.hmac_secret_file Issuer.oidc_discovery Issuer.claims
	Limits.redis RedisStore.password_file AddressLimit.requests AddressLimit.burst AddressLimit.off
	LimitClass.rates LimitClass.quotas LimitClass.max_in_flight_per_caller LimitClass.max_in_flight_per_method
	Upstream.target Upstream.tls Upstream.endpoints Upstream.health_check Upstream.canaries Upstream.shadow
	Upstream.keepalive Upstream.idle_timeout HttpUpstream.idle_timeout
	RetryBudget.off Breaker.off Outlier.off Concurrency.off Resilience.faults
	Canary.target Canary.endpoints Canary.tls Canary.percent Canary.match Canary.methods
	Shadow.target Shadow.endpoints Shadow.tls Shadow.methods ResponseCache.off
	Discovery.etcd Discovery.consul EtcdDiscovery.tls EtcdDiscovery.username EtcdDiscovery.password_file
	ConsulDiscovery.tls ConsulDiscovery.token_file ConsulDiscovery.datacenter Config.http_upstreams Config.http_routes
	HttpUpstream.target HttpUpstream.endpoints HttpUpstream.tls HttpUpstream.health_check HttpUpstream.canaries
	HttpUpstream.shadow HttpUpstream.host HttpUpstream.user_id_header HttpUpstream.no_assertion
	HttpRoute.limit HttpRoute.idempotent HttpRoute.retry HttpRoute.cache HttpRoute.rewrite HttpRoute.request_headers
	HttpRoute.response_headers HttpRoute.request_json HttpRoute.response_json HttpRoute.websocket
`

// without are the messages that have no defaults at all.
const without = " google.protobuf.Duration google.protobuf.Timestamp MethodOverride Tls Claims OidcDiscovery ApiKey ClientCertificate GrpcHealthCheck Fault CanaryMatch HttpMatch PathRewrite HeaderRules JsonRules Keepalive sluice.policy.v1.Require sluice.policy.v1.Limit sluice.policy.v1.Retry sluice.policy.v1.Cache "

// complete fails for a message that is not there, or a value that is zero,
// unless that means something.
func complete(t *testing.T, c *configv1.Config) {
	t.Helper()
	short := func(name protoreflect.FullName) string { return strings.TrimPrefix(string(name), "sluice.config.v1.") }
	may := map[string]bool{}
	for _, name := range strings.Fields(optional) {
		may[name] = true
	}
	var walk func(m protoreflect.Message)
	walk = func(m protoreflect.Message) {
		if strings.Contains(without, " "+short(m.Descriptor().FullName())+" ") {
			return
		}
		for i := range m.Descriptor().Fields().Len() {
			fd := m.Descriptor().Fields().Get(i)
			switch v := m.Get(fd); {
			case !m.Has(fd):
				if !may[short(fd.FullName())] {
					t.Errorf("%s is not set", fd.FullName())
				}
			case fd.IsMap() && fd.MapValue().Message() != nil:
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { walk(v.Message()); return true })
			case fd.IsList() && fd.Message() != nil:
				for j := range v.List().Len() {
					walk(v.List().Get(j).Message())
				}
			case fd.Message() != nil && !fd.IsList() && !fd.IsMap():
				walk(v.Message())
			}
		}
	}
	walk(c.ProtoReflect())
}

func TestFullFile(t *testing.T) {
	c, err := Load(filepath.Join("testdata", "full.yaml"), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	complete(t, c)
	golden(t, filepath.Join("testdata", "full.golden"), asJSON(t, c))
	everyField(t, c)
	if d := c.GetAuth().GetIssuers()[0].GetLeeway(); d == nil || d.AsDuration() != 0 {
		t.Errorf("a leeway of 0s became %v", d)
	}
}

// everyField fails for a field of the schema that c does not set anywhere.
func everyField(t *testing.T, c *configv1.Config) {
	t.Helper()
	set := map[protoreflect.FullName]bool{
		"sluice.config.v1.AddressLimit.off": true, // Excludes the others.
	}
	var walk func(m protoreflect.Message)
	walk = func(m protoreflect.Message) {
		m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			set[fd.FullName()] = true
			switch {
			case fd.IsMap() && fd.MapValue().Message() != nil:
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { walk(v.Message()); return true })
			case fd.IsList() && fd.Message() != nil:
				for j := range v.List().Len() {
					walk(v.List().Get(j).Message())
				}
			case fd.Message() != nil && !fd.IsList() && !fd.IsMap():
				walk(v.Message())
			}
			return true
		})
	}
	walk(c.ProtoReflect())
	messages := configv1.File_sluice_config_v1_config_proto.Messages()
	for i := range messages.Len() {
		md := messages.Get(i)
		for j := range md.Fields().Len() {
			if fd := md.Fields().Get(j); !set[fd.FullName()] && md.Name() != "ApiKeyFile" {
				t.Errorf("%s is not in the file", fd.FullName())
			}
		}
	}
}

// A class that is named replaces the default of its name, and no other.
func TestNamedClassReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte("limits: {classes: {read: {max_in_flight_per_method: 5}, stream: {rates: [{per: global, requests: 7}]}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	got, want := c.GetLimits().GetClasses(), defaultClasses()
	want["read"] = &configv1.LimitClass{MaxInFlightPerMethod: 5}
	want["stream"] = &configv1.LimitClass{Rates: []*configv1.Rate{{Per: "global", Requests: 7, Burst: 7, Interval: durationpb.New(time.Second)}}}
	want["write"].Rates[0].Interval = durationpb.New(time.Second)
	for name := range want {
		if !proto.Equal(got[name], want[name]) {
			t.Errorf("%s: %v, want %v", name, got[name], want[name])
		}
	}
}

func TestEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("http: {addr: ':1001'}\ndata_dir: from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file, env("SLUICE_HTTP_ADDR", ":2001", "SLUICE_GRPC_ADDR", "127.0.0.1:0", "SLUICE_ADMIN_ADDR", "[::1]:2003", "SLUICE_DATA_DIR", "elsewhere"))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct{ got, want string }{
		{c.GetHttp().GetAddr(), ":2001"},
		{c.GetGrpc().GetAddr(), "127.0.0.1:0"},
		{c.GetAdmin().GetAddr(), "[::1]:2003"},
		{c.GetDataDir(), "elsewhere"},
		{c.GetAssertion().GetKeyFile(), filepath.Join("elsewhere", "assertion-key.pem")},
		{c.GetDatabases()["order"].GetDsn(), "sqlite:" + filepath.Join("elsewhere", "order.db")},
	} {
		if v.got != v.want {
			t.Errorf("got %q, want %q", v.got, v.want)
		}
	}
	if c, err := Load(file, noEnv); err != nil || c.GetHttp().GetAddr() != ":1001" || c.GetDataDir() != "from-file" {
		t.Errorf("without the environment: %v, err %v", c, err)
	}
}

func TestBadEnvironment(t *testing.T) {
	for _, tc := range []struct{ name, value string }{
		{"SLUICE_HTTP_ADDR", "8080"}, {"SLUICE_HTTP_ADDR", "http://x:80"}, {"SLUICE_GRPC_ADDR", ":65536"}, {"SLUICE_GRPC_ADDR", ":http"},
		{"SLUICE_ADMIN_ADDR", "::1:9901"}, {"SLUICE_ADMIN_ADDR", "a b:1"}, {"SLUICE_ADMIN_ADDR", ":-1"},
		{"SLUICE_DATA_DIR", "a\x00b"}, {"SLUICE_DATA_DIR", strings.Repeat("a", 4097)},
	} {
		if _, err := Load("", env(tc.name, tc.value)); err == nil || !strings.Contains(err.Error(), tc.name) {
			t.Errorf("%s=%.20q: %v", tc.name, tc.value, err)
		}
	}
	_, err := Load(filepath.Join("testdata", "bad", "unknown_key.yaml"), env("SLUICE_HTTP_ADDR", "x", "SLUICE_GRPC_ADDR", "y"))
	for _, want := range []string{"unknown key", "SLUICE_HTTP_ADDR", "SLUICE_GRPC_ADDR"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if _, err := Load("", env("SLUICE_HTTP_ADDR", ":7000", "SLUICE_GRPC_ADDR", "localhost:7000")); err == nil || !strings.Contains(err.Error(), "same address") {
		t.Errorf("equal addresses: %v", err)
	}
	if _, err := Load("", env("SLUICE_HTTP_ADDR", "127.0.0.1:0", "SLUICE_GRPC_ADDR", "127.0.0.1:0", "SLUICE_ADMIN_ADDR", "127.0.0.1:0")); err != nil {
		t.Errorf("any free ports: %v", err)
	}
	if _, err := Load("", env("SLUICE_HTTP_ADDR", "127.0.0.1:7000", "SLUICE_GRPC_ADDR", "127.0.0.2:7000")); err != nil {
		t.Errorf("one port on two hosts: %v", err)
	}
}

// FuzzLoad holds that any bytes are read or refused with their place, and that
// what is read is complete.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*", "*.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	more, err := filepath.Glob(filepath.Join("testdata", "*.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range append(files, more...) {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := load(&file{path: "fuzz.yaml", data: data}, noEnv)
		if err != nil {
			if c != nil || !strings.HasPrefix(err.Error(), "fuzz.yaml:") {
				t.Fatalf("%v, %v", c, err)
			}
			return
		}
		complete(t, c)
	})
}
