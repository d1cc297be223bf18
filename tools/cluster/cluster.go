package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// cluster is everything that runs.
type cluster struct {
	dir, bin string
	ports    ports

	postgres *database
	redis    *part
	etcd     *part
	services map[string][2]*part // by the short name
	gateways [2]*gateway

	etcdAddr, redisAddr string
	settings            *clientv3.Client // where the gateways' configuration is kept
	token               string
}

// shop are the services, by the name of their program and of their contract.
var shop = []struct{ short, full string }{
	{"user", "shop.user.v1.UserService"},
	{"order", "shop.order.v1.OrderService"},
	{"profile", "shop.profile.v1.ProfileService"},
}

func newCluster(dir, bin string) (*cluster, error) {
	c := &cluster{dir: dir, bin: bin, ports: ports{given: map[string]bool{}}, services: map[string][2]*part{}}
	for _, program := range []string{"sluice", "shop"} {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			return nil, fmt.Errorf("%w: make build makes it", err)
		}
	}
	var err error
	if c.postgres, err = c.newDatabase(); err != nil {
		return nil, err
	}
	return c, errors.Join(c.newRedis(), c.newEtcd())
}

func (c *cluster) newRedis() error {
	bin, err := find("redis-server", "redis-server")
	if err != nil {
		return err
	}
	if c.redisAddr, err = c.ports.free(); err != nil {
		return err
	}
	_, port, _ := strings.Cut(c.redisAddr, ":")
	c.redis = c.part("redis", dialable(c.redisAddr), bin, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", c.dir)
	return nil
}

func (c *cluster) newEtcd() error {
	bin, err := find("etcd", "etcd-server")
	if err != nil {
		return err
	}
	peer, err := c.ports.free()
	if err != nil {
		return err
	}
	if c.etcdAddr, err = c.ports.free(); err != nil {
		return err
	}
	url := "http://" + c.etcdAddr
	c.etcd = c.part("etcd", healthy("http://"+c.etcdAddr+"/health"), bin, "--data-dir", filepath.Join(c.dir, "etcd"),
		"--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", "http://"+peer,
		"--initial-advertise-peer-urls", "http://"+peer, "--initial-cluster", "default=http://"+peer, "--log-level", "error")
	c.settings, err = clientv3.New(clientv3.Config{Endpoints: []string{url}, Logger: zap.NewNop()})
	return err
}

func (c *cluster) part(name string, ready func(context.Context) error, program string, args ...string) *part {
	return &part{name: name, ready: ready, log: filepath.Join(c.dir, name+".log"), command: func() *exec.Cmd {
		cmd := exec.Command(program, args...) //nolint:gosec // Programs of this machine, and our own.
		cmd.Dir = c.dir
		return cmd
	}}
}

// start starts everything, the lowest first.
func (c *cluster) start(ctx context.Context) error {
	if err := c.postgres.prepare(ctx); err != nil {
		return err
	}
	for _, p := range []*part{c.postgres.part, c.redis, c.etcd} {
		if err := p.start(ctx); err != nil {
			return err
		}
	}
	if err := c.postgres.createDatabases(ctx); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, filepath.Join(c.bin, "sluice"), "keys", "--out", c.data(), "--public", c.dir).CombinedOutput(); err != nil { //nolint:gosec // Our own.
		return fmt.Errorf("sluice keys: %w\n%s", err, out)
	}
	if err := c.startServices(ctx); err != nil {
		return err
	}
	if err := c.put(ctx, c.config(settings{})); err != nil {
		return err
	}
	if err := c.startGateways(ctx); err != nil {
		return err
	}
	return c.mint(ctx)
}

func (c *cluster) data() string { return filepath.Join(c.dir, "data") }

// startServices starts every service twice. The first writes the demo data.
func (c *cluster) startServices(ctx context.Context) error {
	for _, s := range shop {
		var both [2]*part
		for i := range both {
			addr, err := c.ports.free()
			if err != nil {
				return err
			}
			args := []string{"--service", s.short, "--addr", addr, "--db", c.postgres.dsn("shop_" + s.short),
				"--assertion-keys", filepath.Join(c.dir, "assertion-key.pub.pem"), "--etcd", "http://" + c.etcdAddr}
			if i == 0 {
				args = append(args, "--seed")
			}
			both[i] = c.part(fmt.Sprintf("%s-%d", s.short, i+1), dialable(addr), filepath.Join(c.bin, "shop"), args...)
			both[i].addr = addr
			if err := both[i].start(ctx); err != nil {
				return err
			}
		}
		c.services[s.short] = both
	}
	return nil
}

// mint makes a token that both gateways accept: they share a data directory, and
// with it the demo key.
func (c *cluster) mint(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "sluice"), "token", "--subject", "ada", "--scope", "users.read orders.read orders.write", "--ttl", "12h") //nolint:gosec // Our own.
	cmd.Env = append(os.Environ(), "SLUICE_DATA_DIR="+c.data())
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("sluice token: %w", err)
	}
	c.token = strings.TrimSpace(string(out))
	return nil
}

// stop ends everything, the highest first.
func (c *cluster) stop() {
	for _, g := range c.gateways {
		if g != nil {
			g.end()
		}
	}
	for _, both := range c.services {
		for _, p := range both {
			if p != nil {
				p.end()
			}
		}
	}
	if c.settings != nil {
		_ = c.settings.Close()
	}
	for _, p := range []*part{c.etcd, c.redis, c.postgres.part} {
		if p != nil {
			p.end()
		}
	}
}

func (c *cluster) welcome() {
	for _, g := range c.gateways {
		fmt.Printf("  %s  REST http://%s  gRPC %s  admin http://%s  pid %d\n", g.name, g.http, g.grpc, g.admin, g.process.Pid)
	}
	for _, s := range shop {
		for _, p := range c.services[s.short] {
			fmt.Printf("  %-9s  pid %d\n", p.name, p.process.Pid)
		}
	}
	fmt.Printf("  postgres pid %d, redis %s pid %d, etcd http://%s pid %d\n", c.postgres.process.Pid, c.redisAddr, c.redis.process.Pid, c.etcdAddr, c.etcd.process.Pid)
	fmt.Printf("try:\n  TOKEN=%s\n  curl -H \"Authorization: Bearer $TOKEN\" http://%s/v1/users/ada/overview\n  kill -9 %d     # a user service: ask again, nobody notices\n  kill -USR2 %d   # a new process takes the place of %s\nCtrl-C ends everything.\n",
		c.token, c.gateways[0].http, c.services["user"][0].process.Pid, c.gateways[0].process.Pid, c.gateways[0].name)
}

// healthy asks a URL for 200.
func healthy(url string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		_, err := get(ctx, url)
		return err
	}
}
