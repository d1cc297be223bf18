package gateway_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
)

// TestRemovedAuthorityEndsCalls: when an authority of clients' certificates is removed,
// connections that are open already are of no use to those it had signed: neither for new
// calls nor for streams, over either edge.
func TestRemovedAuthorityEndsCalls(t *testing.T) {
	t.Parallel()
	const reason = "CERTIFICATE_UNTRUSTED"
	cert, key, trust := certificate(t)
	adaFile, adaKey, _ := certificate(t)
	otherFile, _, _ := certificate(t)
	ada, err := tls.LoadX509KeyPair(adaFile, adaKey)
	if err != nil {
		t.Fatal(err)
	}
	authorities := filepath.Join(t.TempDir(), "clients.pem")
	allow := func(file string) {
		b, err := os.ReadFile(file)
		if err == nil {
			err = errors.Join(os.WriteFile(authorities+".new", b, 0o600), os.Rename(authorities+".new", authorities))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	allow(adaFile)
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		override(c, "Down", &configv1.MethodOverride{StreamIdle: seconds(600), StreamMaxAge: seconds(600)})
		c.Http.Tls = &configv1.ServerTls{CertFile: cert, KeyFile: key, ClientCaFile: authorities}
		c.Grpc.Tls = &configv1.ServerTls{CertFile: cert, KeyFile: key, ClientCaFile: authorities}
		c.Auth = &configv1.Auth{ClientCertificates: []*configv1.ClientCertificate{{San: &configv1.ClientCertificate_Dns{Dns: "localhost"}, Subject: "ada", Scopes: []string{"test.read", "test.write"}}}}
	}, gateway.WithServices(gatewaytest.TestService(&gatewaytest.Server{})), gateway.TLSRefresh(5*time.Millisecond))
	trust.Certificates = []tls.Certificate{ada}
	cc, err := grpc.NewClient(g.Addrs().GRPC, grpc.WithTransportCredentials(credentials.NewTLS(trust)))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	client := testv1.NewTestServiceClient(cc)
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: true}}
	defer web.CloseIdleConnections()
	get := func(path string) (*http.Response, error) { return web.Get("https://" + g.Addrs().HTTP + path) } //nolint:noctx // A test.
	asks := map[string]func() string{
		"gRPC": func() string {
			_, err := client.Echo(t.Context(), &testv1.EchoRequest{Id: "a"})
			return fmt.Sprint(status.Code(err), " ", status.Convert(err).Details())
		},
		"REST": func() string {
			res, err := get("/test/v1/echo/a")
			if err != nil {
				return err.Error()
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			return fmt.Sprint(res.StatusCode, " ", string(b), " ", err)
		},
	}
	for edge, want := range map[string]string{"gRPC": codes.OK.String(), "REST": "200"} {
		if got := asks[edge](); !strings.HasPrefix(got, want) {
			t.Fatalf("%s: %s", edge, got)
		}
	}
	ended := make(chan string, 2)
	down, err := client.Down(t.Context(), &testv1.DownRequest{Count: 2, Gap: seconds(600)})
	if err == nil {
		_, err = down.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := down.Recv()
		ended <- fmt.Sprint("gRPC: ", status.Code(err), " ", status.Convert(err).Details())
	}()
	res, err := get("/test/v1/down?count=2&gap=600s")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	go func() {
		b, err := io.ReadAll(res.Body)
		ended <- fmt.Sprint("REST: ", string(b), " ", err)
	}()

	allow(otherFile)
	for edge, ask := range asks {
		got, end := "", time.Now().Add(30*time.Second)
		for got = ask(); !strings.Contains(got, reason) && time.Now().Before(end); got = ask() {
			time.Sleep(10 * time.Millisecond)
		}
		if !strings.Contains(got, reason) { // A new connection would fail in its handshake.
			t.Errorf("%s: a call on the open connection: %s", edge, got)
		}
	}
	for range 2 {
		select {
		case how := <-ended:
			if !strings.Contains(how, reason) {
				t.Errorf("a stream ends with %s", how)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("a stream goes on")
		}
	}
}
