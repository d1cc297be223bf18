package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// configKey is where in etcd both gateways have their configuration.
const configKey = "sluice/config"

// gateway is one of the two.
type gateway struct {
	*part
	http, grpc, admin string
	pidFile           string
}

func (c *cluster) startGateways(ctx context.Context) error {
	for i := range c.gateways {
		g := &gateway{}
		for _, addr := range []*string{&g.http, &g.grpc, &g.admin} {
			var err error
			if *addr, err = c.ports.free(); err != nil {
				return err
			}
		}
		name := fmt.Sprintf("gateway-%c", 'a'+i)
		g.pidFile = filepath.Join(c.dir, name+".pid")
		g.part = c.part(name, healthy("http://"+g.admin+"/readyz"), filepath.Join(c.bin, "sluice"),
			"serve", "--demo", "--config", "etcd://"+c.etcdAddr+"/"+configKey, "--pid-file", g.pidFile)
		// What differs between the two does not stand in what they share.
		command := g.command
		g.command = func() *exec.Cmd {
			cmd := command()
			cmd.Env = append(os.Environ(), "SLUICE_HTTP_ADDR="+g.http, "SLUICE_GRPC_ADDR="+g.grpc, "SLUICE_ADMIN_ADDR="+g.admin)
			return cmd
		}
		c.gateways[i] = g
		if err := g.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// upgrade puts a new process in the place of the one that runs, and returns when
// the old one has drained.
func (g *gateway) upgrade(ctx context.Context) error {
	old := g.process.Pid
	if err := g.signal(syscall.SIGUSR2); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	var pid int
	if err := until(ctx, func() error {
		var err error
		if pid, err = g.pid(); err == nil && pid == old {
			err = errors.New("the old process goes on")
		}
		return err
	}); err != nil {
		return fmt.Errorf("%s is not replaced: %w; its log is %s", g.name, err, g.log)
	}
	select {
	case <-g.gone:
	case <-ctx.Done():
		return fmt.Errorf("%s: the old process does not end", g.name)
	}
	return g.adopt(pid)
}

// pid is the number of the process that serves.
func (g *gateway) pid() (int, error) {
	raw, err := os.ReadFile(g.pidFile)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(raw)))
}

// end ends the gateway, and who has taken its place when somebody else sent it
// SIGUSR2.
func (g *gateway) end() {
	pid, err := g.pid()
	replaced := err == nil && g.process != nil && pid != g.process.Pid
	g.part.end()
	if replaced && g.adopt(pid) == nil {
		g.part.end()
	}
}

// settings are what the faults change in the gateways' configuration.
type settings struct {
	// requests differs from change to change, so that each is one.
	requests int
	// invalid makes it one that must be refused.
	invalid bool
	// canary is the address of a user service that gets half of the calls.
	canary string
}

// config is the configuration of both: services are found in etcd, limits counted
// in Redis.
func (c *cluster) config(s settings) string {
	var b strings.Builder
	fmt.Fprintf(&b, "data_dir: %q\nlog: {access_off: true}\nshutdown: {not_ready_for: 500ms, grace: 10s}\n", c.data())
	fmt.Fprintf(&b, "discovery: {etcd: {endpoints: [\"http://%s\"]}}\n", c.etcdAddr)
	// A database that is back is used at once: with the default of 5s, up to 5 s later.
	b.WriteString("resilience: {breaker: {open_for: 1s}}\nupstreams:\n")
	for _, p := range shop {
		fmt.Fprintf(&b, "  %s:\n    target: \"etcd:///%s\"\n    balancing: {policy: least_request}\n", p.full, p.full)
		if p.short == "user" && s.canary != "" {
			fmt.Fprintf(&b, "    canaries: [{name: %s, endpoints: [{address: %q}], percent: 50, by: request}]\n", canaryName, s.canary)
		}
	}
	// An attempt that hangs is tried elsewhere long before the call's deadline.
	b.WriteString("methods:\n")
	for _, m := range []string{"shop.user.v1.UserService/GetUser", "shop.order.v1.OrderService/ListOrders", "shop.profile.v1.ProfileService/GetProfile"} {
		fmt.Fprintf(&b, "  %s: {deadline: 3s, retry: {attempt_timeout: 500ms}}\n", m)
	}
	if s.invalid {
		b.WriteString("  shop.user.v1.UserService/NoSuchMethod: {deadline: 1s}\n")
	}
	fmt.Fprintf(&b, "limits:\n  address: {requests: 100000}\n  redis: {url: \"redis://%s\"}\n  classes:\n", c.redisAddr)
	for _, class := range []string{"read", "write", "stream"} {
		fmt.Fprintf(&b, "    %s: {rates: [{per: principal, requests: %d}]}\n", class, 100000+s.requests)
	}
	return b.String()
}

// canaryName is what metrics call the canary.
const canaryName = "next"

// put writes the gateways' configuration.
func (c *cluster) put(ctx context.Context, config string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := c.settings.Put(ctx, configKey, config); err != nil {
		return fmt.Errorf("put the configuration into etcd: %w", err)
	}
	return nil
}

// loaded is what a gateway says of its configuration.
type loaded struct {
	Digest     string
	LastReload struct {
		At             time.Time
		Outcome, Error string
	}
}

func (g *gateway) status(ctx context.Context) (loaded, error) {
	var s loaded
	body, err := get(ctx, "http://"+g.admin+"/config")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("%s: /config: %w", g.name, err)
	}
	return s, nil
}

// change puts a configuration and waits until each gateway has taken it over, or
// has refused it and goes on with what it has.
func (c *cluster) change(ctx context.Context, s settings) error {
	var before [len(c.gateways)]loaded
	for i, g := range c.gateways {
		var err error
		if before[i], err = g.status(ctx); err != nil {
			return err
		}
	}
	if err := c.put(ctx, c.config(s)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for i, g := range c.gateways {
		if err := until(ctx, func() error {
			now, err := g.status(ctx)
			if err != nil {
				return err
			}
			last := now.LastReload
			switch refused := last.Outcome == "invalid" || last.Outcome == "failed"; {
			case last.At.Equal(before[i].LastReload.At):
				return fmt.Errorf("%s has not seen the change", g.name)
			case refused != s.invalid:
				return fmt.Errorf("%s: the change is %s: %s", g.name, last.Outcome, last.Error)
			case s.invalid != (now.Digest == before[i].Digest):
				return fmt.Errorf("%s: the change is %s, and the digest says otherwise", g.name, last.Outcome)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// until asks until the answer is nil, and returns the last one when ctx ends.
func until(ctx context.Context, ask func() error) error {
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// get asks one of the operators' listeners.
func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return fetch(ctx, http.DefaultClient, url)
}
