package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
	"github.com/sluice-gateway/sluice/services/kit"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

const testService = "sluice.test.v1.TestService"

// echo answers who the caller is.
type echo struct {
	testv1.UnimplementedTestServiceServer
}

func (echo) Echo(ctx context.Context, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	return &testv1.EchoResponse{Subject: kit.CallerFrom(ctx).Subject}, nil
}

// serveEcho is a service of its own, with the interceptors that services have
// and the gateway's public halves in a file.
func serveEcho(t *testing.T, public string) testv1.TestServiceClient {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	keys, err := kit.WatchKeys(kit.KeyFilesOptions{Files: []string{public}, Interval: 5 * time.Millisecond, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := kit.NewVerifierFunc(keys.Keys)
	if err != nil {
		t.Fatal(err)
	}
	unary, err := kit.Unary(kit.InterceptorOptions{Verifier: verifier, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(unary))
	testv1.RegisterTestServiceServer(server, echo{})
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		keys.Close()
	})
	return testv1.NewTestServiceClient(conn)
}

// TestRotateUnderCalls replaces the key three times, by the command's own steps,
// while two gateways' signers call a service that runs apart. No call fails.
func TestRotateUnderCalls(t *testing.T) {
	dir, shared := t.TempDir(), t.TempDir()
	if err := keys([]string{"--out", dir, "--public", shared}); err != nil {
		t.Fatal(err)
	}
	file, public := filepath.Join(dir, "assertion-key.pem"), filepath.Join(shared, "assertion-key.pub.pem")
	service := serveEcho(t, public)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var calls atomic.Int64
	var wg sync.WaitGroup
	signers := make([]*auth.Signer, 2)
	for i := range signers {
		s, err := auth.OpenSigner(file, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		s.Watch(5*time.Millisecond, slog.New(slog.DiscardHandler))
		defer s.Close()
		signers[i] = s
		for n := range 2 {
			wg.Go(func() {
				for k := 0; ctx.Err() == nil; k++ {
					if err := callAs(service, s, fmt.Sprintf("user-%d-%d", n, k%50)); err != nil {
						t.Error(err)
						return
					}
					calls.Add(1)
					time.Sleep(500 * time.Microsecond) // The watchers want to run, too.
				}
			})
		}
	}
	before := signers[0].Public()
	r := &rotation{KeyRotation: auth.KeyRotation{File: file, Copies: []string{public}}, settle: 500 * time.Millisecond, ttl: time.Second, out: io.Discard}
	for n := range 3 {
		was := calls.Load()
		if err := r.rotate(n == 1); err != nil {
			t.Fatal(err)
		}
		if calls.Load() == was {
			t.Error("nobody called meanwhile")
		}
	}
	if err := r.retire(); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(public); err != nil || strings.Count(string(raw), "BEGIN PUBLIC KEY") != 1 {
		t.Errorf("published in the end: %s, %v", raw, err)
	}
	for end := time.Now().Add(10 * time.Second); signers[0].Public().Equal(before) || len(signers[1].PublicKeys()) != 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the signers do not follow")
		}
	}
	stop()
	wg.Wait()
	t.Logf("%d calls", calls.Load())
}

func callAs(service testv1.TestServiceClient, s *auth.Signer, subject string) error {
	token, err := s.Sign(policy.NewPrincipal(subject, "test", nil, time.Time{}), testService)
	if err != nil {
		return err
	}
	ctx := metadata.AppendToOutgoingContext(context.Background(), kit.AssertionKey, token)
	got, err := service.Echo(ctx, &testv1.EchoRequest{})
	if err == nil && got.GetSubject() != subject {
		err = fmt.Errorf("answered %q", got.GetSubject())
	}
	return err
}

func TestRotateFlags(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SLUICE_DATA_DIR", dir)
	t.Setenv("SLUICE_CONFIG", "")
	r, retire, err := parseRotation("keys rotate", "", []string{"--settle", "1m", "--retire", "--public", "p"}, io.Discard)
	if err != nil || !retire || r.settle != time.Minute || r.ttl != time.Minute || r.File != filepath.Join(dir, "assertion-key.pem") || r.Copies[0] != filepath.Join("p", "assertion-key.pub.pem") {
		t.Errorf("%+v, %v, %v", r, retire, err)
	}
	for what, args := range map[string][]string{"negative": {"--settle", "-1s"}, "an argument": {"x"}, "no such file": {"--config", filepath.Join(dir, "nope")}} {
		if _, _, err := parseRotation("keys rotate", "", args, io.Discard); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	if _, _, err := parseRotation("keys retire", "", []string{"--retire"}, io.Discard); err == nil {
		t.Error("keys retire --retire was accepted")
	}
	// Without a key there is nothing to rotate: a typing error must not make one.
	if err := keysRotate([]string{"--settle", "0s"}); err == nil {
		t.Error("rotated what is not there")
	}
	if err := keys(nil); err != nil {
		t.Fatal(err)
	}
	if err := keysRotate([]string{"--settle", "0s"}); err != nil {
		t.Error(err)
	}
	if n, _, err := r.Keys(); err != nil || n != 2 {
		t.Errorf("%d keys, %v", n, err)
	}
}
