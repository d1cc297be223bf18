package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/tools/freeport"
)

const (
	// startTime is how long a part may take until it answers, on a busy machine.
	startTime = 60 * time.Second
	// stopTime is how long it may take to end.
	stopTime = 30 * time.Second
)

// part is one process of the cluster, which can be broken and mended. Its methods
// are called by one goroutine.
type part struct {
	name string
	// command makes the process anew, each time it is started.
	command func() *exec.Cmd
	// ready says whether it answers.
	ready func(ctx context.Context) error
	log   string
	addr  string // where it listens, if others are told

	process *os.Process // the one that runs, or did; nil before the first
	gone    chan struct{}
}

// start starts the process and waits until it answers.
func (p *part) start(ctx context.Context) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // The process has its own.
	cmd := p.command()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	p.watch(cmd.Process, func() { _ = cmd.Wait() }) // How it ended stands in its log.
	return p.await(ctx)
}

func (p *part) watch(process *os.Process, wait func()) {
	gone := make(chan struct{})
	p.process, p.gone = process, gone
	go func() { defer close(gone); wait() }()
}

// adopt follows a process that another one has started.
func (p *part) adopt(pid int) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	p.watch(process, func() {
		// It is ours to wait for where orphans come to this process (Linux); elsewhere
		// it can only be asked.
		if _, err := process.Wait(); err == nil {
			return
		}
		for process.Signal(syscall.Signal(0)) == nil {
			time.Sleep(20 * time.Millisecond)
		}
	})
	return nil
}

func (p *part) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	ended := false
	err := until(ctx, func() error {
		select {
		case <-p.gone:
			ended = true
			return nil
		default:
			return p.ready(ctx)
		}
	})
	switch {
	case ended:
		return fmt.Errorf("%s has ended; its log is %s", p.name, p.log)
	case err != nil:
		return fmt.Errorf("%s does not answer: %w; its log is %s", p.name, err, p.log)
	}
	return nil
}

func (p *part) signal(s syscall.Signal) error {
	if p.process == nil {
		return errors.New(p.name + " does not run")
	}
	if err := p.process.Signal(s); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

// kill ends the process at once, as a crash does.
func (p *part) kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.gone
	return nil
}

// terminate asks the process to end, and waits.
func (p *part) terminate() error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.gone:
		return nil
	case <-time.After(stopTime):
		return fmt.Errorf("%s does not end", p.name)
	}
}

// pause stops it where it is: connections stay open, and nothing answers.
func (p *part) pause() error  { return p.signal(syscall.SIGSTOP) }
func (p *part) resume() error { return p.signal(syscall.SIGCONT) }

// end ends the process whatever it does.
func (p *part) end() {
	if p.process == nil {
		return
	}
	_ = p.signal(syscall.SIGCONT) // What is paused takes no other signal.
	_ = p.signal(syscall.SIGTERM)
	select {
	case <-p.gone:
	case <-time.After(3 * time.Second):
		_ = p.kill()
	}
}

// ports hands out free ports of this machine. Someone else may take one before the
// part does: that part then does not start, and says so.
type ports struct {
	mu    sync.Mutex
	given map[string]bool
}

func (p *ports) free() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range 100 {
		addrs, err := freeport.Addrs(1)
		if err != nil {
			return "", err //nolint:wrapcheck // It says what it is about.
		}
		if !p.given[addrs[0]] {
			p.given[addrs[0]] = true
			return addrs[0], nil
		}
	}
	return "", errors.New("no free port")
}

// find looks for a program on the PATH and in the directories where Debian keeps
// some; what is missing is named, with how to install it.
func find(program, debian string, also ...string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	for _, pattern := range also {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return "", fmt.Errorf("%s is not installed: on Debian, apt-get install %s", program, debian)
}

// dialable says whether someone accepts connections at addr.
func dialable(addr string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
}
