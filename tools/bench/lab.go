package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/tools/freeport"
)

const module = "github.com/sluice-gateway/sluice"

// lab is the processes of one benchmark and the directory they live in.
type lab struct {
	dir       string
	processes []*process
}

// process is a running program. Its addresses are on the loopback interface.
type process struct {
	name    string
	program string // its file in the lab
	addr    string // where it serves
	admin   string // of a gateway: where it answers /readyz and /debug/pprof
	token   string // of a gateway: what to send as bearer token

	cmd    *exec.Cmd
	stderr string        // file
	exited chan struct{} // closed when it has ended

	trimmed atomic.Int64 // bytes of stderr that are gone
}

func newLab() (*lab, error) {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return nil, err
	}
	return &lab{dir: dir}, nil
}

// close stops the processes in reverse order, then removes their directory.
func (l *lab) close() error {
	for i := len(l.processes) - 1; i >= 0; i-- {
		l.processes[i].stop()
	}
	return os.RemoveAll(l.dir)
}

// build compiles the programs as they are in the module.
func (l *lab) build(ctx context.Context, programs ...string) error {
	args := []string{"build", "-o", l.dir + string(filepath.Separator)}
	for _, p := range programs {
		if p == "sluice" {
			args = append(args, module+"/gateway/cmd/sluice")
		} else {
			args = append(args, module+"/tools/bench/"+p)
		}
	}
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // fixed arguments
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

func (l *lab) startBackend(ctx context.Context) (*process, error) {
	addrs, err := freeport.Addrs(1)
	if err != nil {
		return nil, err
	}
	p := &process{name: "backend", program: "backend", addr: addrs[0]}
	return p, l.start(ctx, p, nil, "-addr", p.addr)
}

// startPeer starts a program of tools/bench/peer under a name for the report.
func (l *lab) startPeer(ctx context.Context, program, name, backend string) (*process, error) {
	addrs, err := freeport.Addrs(2)
	if err != nil {
		return nil, err
	}
	p := &process{name: name, program: program, addr: addrs[0], admin: addrs[1], token: "none"}
	return p, l.start(ctx, p, nil, "-addr", p.addr, "-admin", p.admin, "-backend", backend)
}

// startSluice starts the gateway as an operator would: from a file, with the
// demo's signing key and a token of that key.
func (l *lab) startSluice(ctx context.Context, s settings, backend string, spans *sink) (*process, error) {
	addrs, err := freeport.Addrs(3)
	if err != nil {
		return nil, err
	}
	p := &process{name: "sluice", program: "sluice", addr: addrs[0], admin: addrs[2]}
	data := filepath.Join(l.dir, "data")
	config := filepath.Join(l.dir, "sluice.yaml")
	if err := writeConfig(config, map[string]any{
		"http":     map[string]any{"addr": addrs[0]},
		"grpc":     map[string]any{"addr": addrs[1]},
		"admin":    map[string]any{"addr": addrs[2]},
		"data_dir": data,
		"log":      map[string]any{"access_off": !s.accessLog},
		"limits":   unreachable(),
		"upstreams": map[string]any{
			"shop.user.v1.UserService":       map[string]any{"target": backend},
			"shop.order.v1.OrderService":     map[string]any{"target": backend},
			"shop.profile.v1.ProfileService": map[string]any{"target": backend},
		},
	}); err != nil {
		return nil, err
	}
	env := []string{"SLUICE_DATA_DIR=" + data}
	if err := l.start(ctx, p, append(env, spans.tracing()...), "serve", "--demo", "--config", config); err != nil {
		return nil, err
	}
	token := exec.CommandContext(ctx, l.file(p), "token", "--subject", "ada", "--ttl", "12h", "--scope", "users.read orders.read orders.write") //nolint:gosec // our own program
	token.Env = append(cleanEnv(), env...)
	var complaint strings.Builder
	token.Stderr = &complaint
	out, err := token.Output()
	if err != nil {
		return nil, fmt.Errorf("sluice token: %w\n%s", err, complaint.String())
	}
	p.token = strings.TrimSpace(string(out))
	return p, nil
}

// unreachable are limits that no load of ours comes near. They are not off: what
// is measured decides over one address and one class a request, as in production.
func unreachable() map[string]any {
	const most = 1_000_000_000 // The largest that the configuration takes.
	classes := map[string]any{}
	for _, name := range []string{"read", "write", "stream"} {
		classes[name] = map[string]any{"rates": []any{map[string]any{"per": "principal", "requests": most, "burst": most}}}
	}
	return map[string]any{"address": map[string]any{"requests": most, "burst": most}, "classes": classes}
}

// writeConfig writes JSON, which is YAML.
func writeConfig(file string, config map[string]any) error {
	b, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}

// file is the file of a process's program.
func (l *lab) file(p *process) string { return filepath.Join(l.dir, p.program) }

// start starts a process and waits until it serves.
func (l *lab) start(ctx context.Context, p *process, env []string, args ...string) error {
	p.stderr = filepath.Join(l.dir, fmt.Sprintf("%d.log", len(l.processes)))
	// Append only, so that trimLog can make it short under the writer.
	stderr, err := os.OpenFile(p.stderr, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer stderr.Close()                     //nolint:errcheck // the process has its own descriptor
	p.cmd = exec.Command(l.file(p), args...) //nolint:gosec,noctx // our own program; stopped by lab.close
	p.cmd.Env = append(cleanEnv(), env...)
	p.cmd.Dir = l.dir
	p.cmd.Stderr = stderr
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.exited = make(chan struct{})
	go func() {
		_ = p.cmd.Wait() // its state is kept in cmd
		close(p.exited)
	}()
	l.processes = append(l.processes, p)
	return p.waitReady(ctx)
}

// cleanEnv is the environment without Sluice's own variables, which would
// override the configuration that is measured, and without OpenTelemetry's.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "SLUICE_") && !strings.HasPrefix(kv, "OTEL_") {
			env = append(env, kv)
		}
	}
	return env
}

func (p *process) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := p.probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return p.died()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", p.name, err, p.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// probe asks once whether the process serves.
func (p *process) probe(ctx context.Context) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return err
	}
	if err := conn.Close(); err != nil || p.admin == "" {
		return err
	}
	_, err = get(ctx, "http://"+p.admin+"/readyz", "")
	return err
}

func (p *process) died() error {
	return fmt.Errorf("%s has ended: %v\n%s", p.name, p.cmd.ProcessState, p.tail())
}

// dead is what there is to say of a process that has ended, and nil while it runs.
func (p *process) dead() error {
	select {
	case <-p.exited:
		return p.died()
	case <-time.After(50 * time.Millisecond): // It may be about to.
		return nil
	}
}

// stop asks the process to end, and after ten seconds no longer asks.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// tail is the end of what the process wrote to standard error.
func (p *process) tail() string {
	b, err := os.ReadFile(p.stderr)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4096):])
}

// trimLog empties the log once it is large: a long soak would fill the disk.
func (p *process) trimLog() error {
	info, err := os.Stat(p.stderr)
	if err != nil || info.Size() < 64<<20 {
		return err
	}
	p.trimmed.Add(info.Size())
	return os.Truncate(p.stderr, 0)
}

// logged is how many bytes the process has written to standard error.
func (p *process) logged() int64 {
	info, err := os.Stat(p.stderr)
	if err != nil {
		return 0
	}
	return p.trimmed.Load() + info.Size()
}
