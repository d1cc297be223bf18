// Package etcdtest runs a real etcd for the length of a test, as the process that
// operators run. Its users are the tests of gateway/discovery, gateway/config and
// services/kit/announce. Embedding etcd's server would bring its whole module into
// ours, and into every build of those tests.
package etcdtest

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/tools/freeport"
)

const startTimeout = 60 * time.Second

// Start runs etcd on the data directory dir until stop is called or the test ends.
// at is the host:port for its clients, or empty for a free port of 127.0.0.1. Stop
// kills the process as a crash would: what etcd has acknowledged is in dir. Where
// etcd is not installed, the test fails if CI=true, and is skipped on a developer's
// machine: a test that did not run proves nothing.
func Start(t testing.TB, dir, at string) (addr string, stop func()) {
	t.Helper()
	bin, err := exec.LookPath("etcd")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("etcd is not installed; tools/deps.sh installs it")
		}
		t.Skip("etcd is not installed; tools/deps.sh installs it")
	}
	// Between finding a free port and etcd taking it, another process may.
	for range 5 {
		addr, stop, err = start(bin, dir, at)
		if err == nil {
			t.Cleanup(stop)
			return addr, stop
		}
	}
	t.Fatal(err)
	return "", nil
}

func start(bin, dir, at string) (addr string, stop func(), err error) {
	ports, err := freeport.Addrs(2)
	if err != nil {
		return "", nil, err
	}
	if at == "" {
		at = ports[0]
	}
	client, peer := "http://"+at, "http://"+ports[1]
	out := &bytes.Buffer{}                                                                                         // Read only when the process has ended.
	cmd := exec.Command(bin, "--data-dir", dir, "--listen-client-urls", client, "--advertise-client-urls", client, //nolint:gosec // a program found on this machine
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--log-level", "error")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = cmd.Wait() // It is always killed; what it had to say is in out.
	}()
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		<-gone
	})
	if err := await(client, gone); err != nil {
		stop()
		return "", nil, fmt.Errorf("etcd: %w\n%s", err, out)
	}
	return at, stop, nil
}

// await waits until etcd says that it is healthy, which it is once it has a leader.
func await(url string, gone <-chan struct{}) error {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	for end := time.Now().Add(startTimeout); time.Now().Before(end); {
		if res, err := c.Get(url + "/health"); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-gone:
			return errors.New("it has ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
	return errors.New("it does not become healthy")
}
