package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
)

// asCommand makes the test's binary behave as the command itself.
const asCommand = "SHOP_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// command is a shop process.
type command struct {
	t      *testing.T
	cmd    *exec.Cmd
	addr   string
	exited chan error
	stderr *strings.Builder
}

// start runs the command until it is ready; it is killed when the test ends, if it
// still runs.
func start(t *testing.T, env []string, args ...string) *command {
	t.Helper()
	c := &command{t: t, cmd: exec.Command(os.Args[0], args...), exited: make(chan error, 1), stderr: &strings.Builder{}}
	c.cmd.Env = append(append(os.Environ(), asCommand+"=1"), env...)
	c.cmd.Stderr = c.stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("no ready line: %v, exit %v\n%s", err, c.wait(), c.stderr)
	}
	fields := strings.Fields(line)
	if len(fields) != 5 || !strings.HasSuffix(strings.Join(fields[:4], " "), "service ready on") {
		t.Fatalf("ready line = %q", line)
	}
	c.addr = fields[4]
	go func() {
		_, _ = io.Copy(io.Discard, out)
		c.exited <- c.cmd.Wait()
	}()
	return c
}

func (c *command) wait() error {
	if c.addr == "" { // Nobody waits yet.
		return c.cmd.Wait()
	}
	select {
	case err := <-c.exited:
		c.exited <- err
		return err
	case <-time.After(30 * time.Second):
		return errors.New("the process does not exit")
	}
}

func (c *command) signal(s os.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// kill ends the process as a power cut would: it has no say.
func (c *command) kill() {
	_ = c.cmd.Process.Signal(syscall.SIGKILL)
	_ = c.wait()
}

// dial connects to the process without TLS.
func (c *command) dial(opts ...grpc.DialOption) *grpc.ClientConn {
	c.t.Helper()
	if len(opts) == 0 {
		opts = append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	conn, err := grpc.NewClient(c.addr, opts...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// gateway signs assertions, whose key is in a file.
type gateway struct {
	*kittest.Signer
	file string
}

func newGateway(t *testing.T) gateway {
	t.Helper()
	g := gateway{Signer: kittest.NewSigner(t), file: filepath.Join(t.TempDir(), "gateway.pub")}
	der, err := x509.MarshalPKIXPublicKey(g.Public)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, g.file, "PUBLIC KEY", der)
	return g
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// as returns a context that calls a service as somebody.
func (g gateway) as(t *testing.T, service, subject string, scopes ...string) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, kit.AssertionKey, g.Token(t, kit.Caller{Subject: subject, Scopes: scopes}, service))
}
