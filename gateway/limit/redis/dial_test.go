package redis_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/gateway/limit"
	"github.com/sluice-gateway/sluice/gateway/limit/redis"
	"github.com/sluice-gateway/sluice/gateway/limit/redistest"
	"github.com/sluice-gateway/sluice/tools/freeport"
)

func TestURL(t *testing.T) {
	for _, tc := range []struct {
		url, password    string
		addr, user, pass string
		db               int
		tls              bool
		refused          bool
	}{
		{url: "redis://r", addr: "r:6379"},
		{url: "redis://r:1234/", addr: "r:1234"},
		{url: "redis://[::1]:1/5", addr: "[::1]:1", db: 5},
		{url: "rediss://ada:pw@r:1/2", addr: "r:1", user: "ada", pass: "pw", db: 2, tls: true},
		{url: "redis://:pw@r", addr: "r:6379", pass: "pw"},
		{url: "redis://:pw@r", password: "other", addr: "r:6379", pass: "other"},
		{url: "", refused: true},
		{url: "r:6379", refused: true},
		{url: "redis:r", refused: true},
		{url: "redis://", refused: true},
		{url: "http://r", refused: true},
		{url: "unix:///tmp/x", refused: true},
		{url: "redis://:hunter2@r/x", refused: true},
		{url: "redis://:hunter2@r/-1", refused: true},
		{url: "redis://:hunter2@r/1/2", refused: true},
		{url: "rediss://:hunter2@r?skip_verify=true", refused: true},
		{url: "redis://:hunter2@r:port", refused: true},
		{url: "redis://:hunter2\x00@r", refused: true},
	} {
		o, err := redis.DialOption(tc.url, tc.password)
		if tc.refused {
			if err == nil {
				t.Errorf("%q is accepted", tc.url)
			} else if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q: the error tells the password: %v", tc.url, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tc.url, err)
			continue
		}
		if o.InitAddress[0] != tc.addr || o.Username != tc.user || o.Password != tc.pass || o.SelectDB != tc.db || (o.TLSConfig != nil) != tc.tls {
			t.Errorf("%q: %v %q %q %d %v", tc.url, o.InitAddress, o.Username, o.Password, o.SelectDB, o.TLSConfig != nil)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]redis.Options{
		"no URL":                 {Fallback: redis.Open},
		"no local store":         {URL: "redis://r"},
		"an unknown fallback":    {URL: "redis://r", Fallback: "opne"},
		"local, without a store": {URL: "redis://r", Fallback: redis.Local},
	} {
		if s, err := redis.New(o); err == nil {
			t.Error(name, s.Close())
		}
	}
}

func TestBadAsks(t *testing.T) {
	s := open(t, redis.Options{URL: "redis://127.0.0.1:1", Fallback: redis.Open})
	for name, ask := range map[string]limit.Ask{
		"no cost":     rate("r", "a", 0, 1, 1),
		"huge cost":   rate("r", "a", 1<<53+1, 1<<53, 1),
		"huge size":   quota("r", "a", 1, 1<<53+1, limit.Day),
		"no emission": rate("r", "a", 1, 1, 0),
		"period":      quota("r", "a", 1, 1, 7),
	} {
		if ok, err := s.Take(t.Context(), []limit.Ask{ask}, make([]limit.Answer, 1)); ok || err == nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
	if ok, err := s.Take(t.Context(), []limit.Ask{rate("r", "a", 1, 1, 1)}, nil); ok || err == nil {
		t.Errorf("no answers: %v, %v", ok, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Take(t.Context(), []limit.Ask{rate("r", "a", 1, 1, 1)}, make([]limit.Answer, 1)); ok || err == nil {
		t.Errorf("after Close: %v, %v", ok, err)
	}
}

func TestPasswordAndDatabase(t *testing.T) {
	server := redistest.Start(t, "--requirepass", "hunter2")
	log := &lines{}
	wrong := open(t, redis.Options{URL: server.URL(), Password: "hunter3", Log: logTo(log), Timeout: patient})
	await(t, "a warning", func() bool { return log.count("WRONGPASS") == 1 })
	if wrong.Up() || strings.Contains(log.String(), "hunter") {
		t.Errorf("up %v, logged %s", wrong.Up(), log)
	}
	right := openUp(t, redis.Options{URL: server.URL() + "/3", Password: "hunter2", Prefix: "p:", Timeout: patient})
	take(t, right, rate("read/principal/0", "ada", 1, 10, time.Hour))
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}, Password: "hunter2", SelectDB: 3,
		ForceSingleClient: true, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ttl, err := client.Do(t.Context(), client.B().Pttl().Key("p:rate:read/principal/0:ada").Build()).AsInt64()
	if err != nil || ttl <= 0 || ttl > int64(time.Hour/time.Millisecond) {
		t.Errorf("the key lives for %d ms, %v", ttl, err)
	}
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestTLS has the server's certificate signed by a root of the system's, and then
// by nobody's.
func TestTLS(t *testing.T) {
	if os.Getenv(caEnv) == "" {
		child(t, caEnv, writeCertificates(t))
		return
	}
	dir := os.Getenv(caEnv)
	for name, tc := range map[string]struct {
		certificate string
		up          bool
	}{"trusted": {"server", true}, "of another name": {"stranger", false}, "of nobody": {"selfsigned", false}} {
		t.Run(name, func(t *testing.T) {
			free, err := freeport.Addrs(1)
			if err != nil {
				t.Fatal(err)
			}
			addr := free[0]
			redistest.Start(t, "--tls-port", port(t, addr), "--tls-auth-clients", "no",
				"--tls-cert-file", filepath.Join(dir, tc.certificate+".pem"), "--tls-key-file", filepath.Join(dir, tc.certificate+".key"),
				"--tls-ca-cert-file", filepath.Join(dir, "ca.pem"))
			log := &lines{}
			s := open(t, redis.Options{URL: "rediss://" + addr, Log: logTo(log), Timeout: patient})
			if tc.up {
				await(t, "redis to be up", s.Up)
				take(t, s, rate("r", "a", 1, 1, time.Hour))
				return
			}
			await(t, "a warning", func() bool { return log.count("level=WARN") == 1 })
			if s.Up() || !strings.Contains(log.String(), "x509") {
				t.Errorf("up %v, logged %s", s.Up(), log)
			}
		})
	}
}

// caEnv names the directory of the certificates in a child process, which trusts
// them: a process reads the system's roots once.
const caEnv = "SLUICE_TEST_REDIS_CA"

func child(t *testing.T, env, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v") //nolint:gosec // this test
	cmd.Env = append(os.Environ(), env+"="+dir, "SSL_CERT_FILE="+filepath.Join(dir, "ca.pem"), "SSL_CERT_DIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "--- SKIP") {
		t.Skip("skipped in the child process")
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+"/trusted") {
		t.Errorf("%v\n%s", err, out)
	}
}

func writeCertificates(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)}
	rootKey := certificate(t, dir, "ca", root, root, nil)
	leaf := func(serial int64, ip string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(ip)}}
	}
	certificate(t, dir, "server", leaf(2, "127.0.0.1"), root, rootKey)
	certificate(t, dir, "stranger", leaf(3, "192.0.2.1"), root, rootKey)
	self := leaf(4, "127.0.0.1")
	certificate(t, dir, "selfsigned", self, self, nil)
	return dir
}

// certificate writes a certificate and its key. Without a parent's key it signs
// itself.
func certificate(t *testing.T, dir, name string, c, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parentKey == nil {
		parentKey = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key
}
