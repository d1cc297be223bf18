package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"

	"github.com/sluice-gateway/sluice/tools/effort"
)

// reloadBase is what a numbered configuration adds its number to, in a limit that
// every answer tells.
const reloadBase = 1_000_000

// numberedConfig is the content of a configuration with a number.
func numberedConfig(n int) object {
	limits := maps.Clone(unreachable())
	classes := maps.Clone(limits["classes"].(object))
	classes["read"] = object{"rates": []object{{"per": "principal", "requests": reloadBase + n, "burst": reloadBase + n}}}
	limits["classes"] = classes
	return object{"limits": limits}
}

// mounted is a configuration as Kubernetes mounts it: replaced as a whole, by one
// rename of a link.
type mounted struct {
	dir, file string
	n         int
}

func mount(t *testing.T) *mounted {
	t.Helper()
	m := &mounted{dir: t.TempDir()}
	m.file = filepath.Join(m.dir, "sluice.yaml")
	if err := os.Symlink(filepath.Join("..data", "sluice.yaml"), m.file); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *mounted) put(t *testing.T, content object) {
	t.Helper()
	m.n++
	name := fmt.Sprintf("..v%d", m.n)
	if err := os.Mkdir(filepath.Join(m.dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	writeJSON(t, filepath.Join(m.dir, name, "sluice.yaml"), content)
	next := filepath.Join(m.dir, "..data_tmp")
	if err := errors.Join(os.Symlink(name, next), os.Rename(next, filepath.Join(m.dir, "..data"))); err != nil {
		t.Fatal(err)
	}
	_ = os.RemoveAll(filepath.Join(m.dir, fmt.Sprintf("..v%d", m.n-1))) // As Kubernetes does; the first has none before it.
}

// replaced is a file that is replaced by a rename.
type replaced struct{ file string }

func (r *replaced) put(t *testing.T, content object) {
	t.Helper()
	writeJSON(t, r.file+".next", content)
	if err := os.Rename(r.file+".next", r.file); err != nil {
		t.Fatal(err)
	}
}

// TestReload: a hundred reloads of a process under load, every third invalid: half
// of them by SIGHUP at once, half found by the gateway itself. No caller sees one.
func TestReload(t *testing.T) {
	t.Parallel()
	m := mount(t)
	r := &replaced{filepath.Join(t.TempDir(), "sluice.yaml")}
	for _, test := range []struct {
		name, file string
		put        func(*testing.T, object)
		reloads    int
		hangup     bool
	}{
		{"by SIGHUP", r.file, r.put, effort.Rounds(31, 100), true},
		{"mounted", m.file, m.put, 12, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.put(t, numberedConfig(0))
			g := startGateway(t, setup{defaults: true, env: []string{"SLUICE_CONFIG=" + test.file}})
			load := startCallers(t, g)
			for n := 1; n <= test.reloads; n++ {
				before, bad := g.reloads(t), n%3 == 0
				content := numberedConfig(n)
				if bad {
					content["no_such_key"] = 1
				}
				test.put(t, content)
				if test.hangup {
					g.signal(t, syscall.SIGHUP)
				}
				eventually(t, patience, func() error {
					now := g.reloads(t)
					if bad && now.invalid == before.invalid || !bad && now.applied == before.applied {
						return fmt.Errorf("reload %d: %+v", n, now)
					}
					return nil
				})
			}
			load.end(t)
			want := test.reloads
			if want%3 == 0 { // The last was no good.
				want--
			}
			if got := load.last.Load(); got != int64(want) {
				t.Errorf("the last answer was by configuration %d, want %d", got, want)
			}
			if n := g.metric(t, "sluice_config_snapshots"); n != 1 {
				t.Errorf("%v configurations are still in use", n)
			}
			status := string(g.atAdmin(t, "/config").body)
			for _, part := range []string{`"outcome"`, `"digest"`, test.file} {
				if !strings.Contains(status, part) {
					t.Errorf("/config lacks %s: %s", part, status)
				}
			}
		})
	}
}

type reloaded struct{ applied, invalid float64 }

func (g *gateway) reloads(t *testing.T) reloaded {
	t.Helper()
	return reloaded{g.metric(t, "sluice_config_reloads_total", `outcome="applied"`), g.metric(t, "sluice_config_reloads_total", `outcome="invalid"`)}
}

// callers call over HTTP/1, HTTP/2 and gRPC, all the time, and watch orders.
type callers struct {
	g     *gateway
	token string
	ctx   context.Context
	end   func(t *testing.T)
	made  atomic.Int64
	last  atomic.Int64 // the number of the configuration that answered last

	mu   sync.Mutex
	errs []error
}

func startCallers(t *testing.T, g *gateway) *callers {
	t.Helper()
	c := &callers{g: g, token: g.token(t), ctx: t.Context()}
	id := place(t, g, c.token, "watched through reloads")
	overREST, overGRPC := watchREST(t, g, c.token, id), watchGRPC(t, as(t, c.token), g.conn, id)
	overREST.mustNext(t, placed)
	overGRPC.mustNext(t, placed)
	h1 := &http.Client{Transport: &http.Transport{}}
	h2 := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	h2.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for _, call := range []func() error{func() error { return c.rest(h1) }, func() error { return c.rest(h2) }, c.rpc} {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c.made.Add(1)
				if err := call(); err != nil {
					c.mu.Lock()
					c.errs = append(c.errs, err)
					c.mu.Unlock()
				}
				time.Sleep(pace)
			}
		})
	}
	c.end = func(t *testing.T) {
		t.Helper()
		close(stop)
		all.Wait()
		h1.CloseIdleConnections()
		h2.CloseIdleConnections()
		// The streams have lived through all of it.
		g.rest(t, "POST", "/v1/orders/"+id+":cancel", c.token, "{}")
		overREST.mustNext(t, cancelled)
		overGRPC.mustNext(t, cancelled)
		t.Logf("%d calls, %d failed", c.made.Load(), len(c.errs))
		for i, err := range c.errs {
			if i < 10 {
				t.Error(err)
			}
		}
	}
	return c
}

var quota = regexp.MustCompile(`q=(\d+)`)

// answered notes by which configuration a call was answered.
func (c *callers) answered(policy string) error {
	m := quota.FindStringSubmatch(policy)
	if m == nil {
		return fmt.Errorf("RateLimit-Policy: %q", policy)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	c.last.Store(n - reloadBase)
	return err
}

func (c *callers) rest(client *http.Client) error {
	req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, c.g.url+"/v1/users/ada", http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s %w", res.Status, body, err)
	}
	return c.answered(res.Header.Get("RateLimit-Policy"))
}

func (c *callers) rpc() error {
	ctx, cancel := context.WithTimeout(withToken(c.ctx, c.token), time.Minute)
	defer cancel()
	var header metadata.MD
	if _, err := userv1.NewUserServiceClient(c.g.conn).GetUser(ctx, &userv1.GetUserRequest{UserId: "ada"}, grpc.Header(&header)); err != nil {
		return err
	}
	return c.answered(strings.Join(header.Get("ratelimit-policy"), ","))
}
