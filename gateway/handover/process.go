package handover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudflare/tableflip"
	"github.com/coreos/go-systemd/v22/activation"

	"github.com/sluice-gateway/sluice/gateway/listen"
)

// settle is how long tableflip is given to notice what it has told us.
const settle = 20 * time.Millisecond

// DefaultTimeout is how long a new process may take to get ready.
const DefaultTimeout = time.Minute

// Options of a Process. The zero value is useful.
type Options struct {
	// Timeout is how long a new process may take to get ready, before it is killed
	// and the old one goes on; 0 means DefaultTimeout.
	Timeout time.Duration
	// PIDFile names a file that holds the number of the process that serves; empty
	// means none.
	PIDFile string
	// Names are those of all sockets, in FileDescriptorName= of systemd's units.
	Names []string
	// Optional are those of Names that systemd may leave out.
	Optional []string
}

// Process is this process among those that follow each other on the same
// sockets. It is safe for concurrent use.
type Process struct {
	o        Options
	upgrader *tableflip.Upgrader // nil where the system has no such thing
	replaced atomic.Bool
	upgrade  sync.Mutex      // held by Upgrade
	serving  context.Context // ends with Stopping
	stop     context.CancelFunc

	mu        sync.Mutex
	activated map[string]*os.File // by name, from systemd, not listened on yet
	sources   map[string]string   // by name: where its socket is from
}

// New takes over what systemd or the process before has passed. There is one
// Process in a program. What systemd passes must make sense: New fails when a
// socket has a name that is not among Options.Names, or one is missing.
func New(o Options) (*Process, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	p := &Process{o: o, activated: map[string]*os.File{}, sources: map[string]string{}}
	p.serving, p.stop = context.WithCancel(context.Background())
	var err error
	p.upgrader, err = tableflip.New(tableflip.Options{UpgradeTimeout: o.Timeout, PIDFile: o.PIDFile})
	if err != nil && !errors.Is(err, tableflip.ErrNotSupported) {
		return nil, fmt.Errorf("take over from the process before: %w", err)
	}
	if p.Follows() {
		return p, ownWatchdog()
	}
	return p, p.activate(activation.Files(true))
}

// Follows says whether this process replaces another.
func (p *Process) Follows() bool { return p.upgrader != nil && p.upgrader.HasParent() }

// activate sorts systemd's sockets by their names.
func (p *Process) activate(files []*os.File) error {
	known := strings.Join(p.o.Names, ", ")
	for _, f := range files {
		name := f.Name()
		switch {
		case !slices.Contains(p.o.Names, name):
			return fmt.Errorf("systemd passes a socket named %q: set FileDescriptorName= in its .socket unit to one of %s", name, known)
		case p.activated[name] != nil:
			return fmt.Errorf("systemd passes two sockets named %q: each of %s has one ListenStream=", name, known)
		}
		p.activated[name] = f
	}
	if len(files) == 0 {
		return nil
	}
	for _, name := range p.o.Names {
		if p.activated[name] == nil && !slices.Contains(p.o.Optional, name) {
			got := strings.Join(slices.Sorted(maps.Keys(p.activated)), ", ")
			return fmt.Errorf("systemd passes sockets (%s), but none named %q: add a .socket unit with FileDescriptorName=%s to Sockets= of the service, or start it without sockets", got, name, name)
		}
	}
	return nil
}

// Where the socket of a name is from, as Ready logs it.
const (
	fromSystemd   = "systemd"
	fromProcess   = "the process before"
	fromOurselves = "own"
)

// Listen returns the socket of a name: systemd's where it has passed one,
// whatever the address (host:port); else the one that the process before has for
// the same address; else a new one. The next process gets it, too.
func (p *Process) Listen(ctx context.Context, name, addr string) (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l, err := p.inherited(name, addr); l != nil || err != nil {
		return l, err
	}
	if f := p.activated[name]; f != nil {
		delete(p.activated, name)
		l, err := net.FileListener(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("systemd's socket %q is none that accepts connections (ListenStream=): %w", name, err)
		}
		if _, ok := l.(*net.TCPListener); !ok {
			return nil, errors.Join(fmt.Errorf("systemd's socket %q is %s %s: only TCP is served (ListenStream=PORT or ADDRESS:PORT)", name, l.Addr().Network(), l.Addr()), l.Close())
		}
		if err := p.keep(l, name, systemdKey(name), fromSystemd); err != nil {
			return nil, err
		}
		return listen.Adopt(l)
	}
	l, err := listen.Socket(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if err := p.keep(l, name, ownKey(name, addr), fromOurselves); err != nil {
		return nil, err
	}
	return l, nil
}

// Sockets are told apart by name, for three may be on port 0, and by address, so
// that a new address in the configuration is a new socket.
func systemdKey(name string) string   { return name + " of systemd" }
func ownKey(name, addr string) string { return name + " on " + addr }

// network of all sockets.
const network = "tcp"

// inherited is the socket that the process before has passed, if there is one.
func (p *Process) inherited(name, addr string) (net.Listener, error) {
	if !p.Follows() {
		return nil, nil
	}
	for _, key := range []string{systemdKey(name), ownKey(name, addr)} {
		l, err := p.upgrader.Listener(network, key)
		if err != nil {
			return nil, fmt.Errorf("the socket %q of the process before: %w", name, err)
		}
		if l != nil {
			p.sources[name] = fromProcess
			return listen.Adopt(l)
		}
	}
	return nil, nil
}

// keep notes a socket for the next process.
func (p *Process) keep(l net.Listener, name, key, source string) error {
	p.sources[name] = source
	if p.upgrader == nil {
		return nil
	}
	s, ok := l.(tableflip.Listener)
	if !ok {
		return errors.Join(fmt.Errorf("socket %q: a %T cannot be handed on", name, l), l.Close())
	}
	if err := p.upgrader.AddListener(network, key, s); err != nil {
		return errors.Join(fmt.Errorf("socket %q: %w", name, err), l.Close())
	}
	return nil
}

// Ready says that this process serves: to systemd, and to the process before,
// which then drains.
func (p *Process) Ready(log *slog.Logger) error {
	p.mu.Lock()
	var from []any
	for _, name := range p.o.Names {
		from = append(from, name, p.sources[name])
	}
	p.mu.Unlock()
	if p.upgrader != nil {
		if err := p.upgrader.Ready(); err != nil {
			return err
		}
	}
	state := []string{sdReady, sdStatus + "serving"}
	if p.Follows() {
		log.Info("took over from the process before", "pid", os.Getpid())
		state = append(state, "MAINPID="+strconv.Itoa(os.Getpid()))
	}
	log.Debug("sockets", from...)
	return notify(state...)
}

// Upgrade starts the program again, as the file it was started from is now, with
// the same arguments, and waits until it is ready. Then this process should
// drain, and end. It waits for the process before this one, which may drain still:
// no more than two share the sockets. When Upgrade fails, nothing has changed, and
// it may be called again.
func (p *Process) Upgrade() error {
	switch {
	case p.upgrader == nil:
		return tableflip.ErrNotSupported
	case os.Getpid() == 1:
		return errors.New("this is the first process of its container, which ends when it does: start another container instead")
	}
	p.upgrade.Lock()
	defer p.upgrade.Unlock()
	if err := p.waitForBefore(); err != nil {
		return err
	}
	if err := p.upgrader.Upgrade(); err != nil {
		return fmt.Errorf("the new process is not ready, this one goes on: %w", err)
	}
	p.replaced.Store(true)
	return nil
}

// waitForBefore waits until the process before this one has ended.
func (p *Process) waitForBefore() error {
	if !p.Follows() {
		return nil
	}
	ctx, cancel := context.WithTimeout(p.serving, p.o.Timeout)
	defer cancel()
	if err := p.upgrader.WaitForParent(ctx); err != nil {
		return fmt.Errorf("the process before this one has not ended: %w", err)
	}
	// The upgrader hears of it on a goroutine of its own, and refuses until then.
	time.Sleep(settle)
	return nil
}

// Stopping says that this process ends. There are no more upgrades, one that is
// on its way is given up, and the sockets are this process's alone: when it
// closes them, connections are refused.
func (p *Process) Stopping() error {
	p.stop()
	if p.upgrader != nil {
		p.upgrader.Stop()
		<-p.upgrader.Exit()
	}
	p.upgrade.Lock() // One that is on its way says first how it went.
	defer p.upgrade.Unlock()
	if p.replaced.Load() { // The service goes on.
		return nil
	}
	return errors.Join(p.removePIDFile(), notify(sdStopping, sdStatus+"draining"))
}

func (p *Process) removePIDFile() error {
	if p.o.PIDFile == "" {
		return nil
	}
	b, err := os.ReadFile(p.o.PIDFile)
	if err != nil || strings.TrimSpace(string(b)) != strconv.Itoa(os.Getpid()) {
		return nil //nolint:nilerr // It is not ours any more.
	}
	return os.Remove(p.o.PIDFile)
}
