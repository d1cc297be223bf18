package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Defaults of Options.
const (
	defaultMaxConns           = 10_000
	defaultMaxConnsPerAddress = 1_000
	defaultHeaderTimeout      = 5 * time.Second
)

// Limits, as Options.Refused names them.
const (
	// LimitConnections is the bound on all connections.
	LimitConnections = "connections"
	// LimitConnectionsPerAddress is the bound on the connections of one address.
	LimitConnectionsPerAddress = "connections_per_address"
	// LimitProxyHeader is the PROXY header that a trusted proxy must send, in time
	// and well-formed.
	LimitProxyHeader = "proxy_header"
)

// Options of a listener. The zero value is useful.
type Options struct {
	// Network is that of net.Listen; empty means tcp.
	Network string
	// Addr is host:port.
	Addr string
	// MaxConns bounds the open connections; 0 means 10,000, less means no bound.
	MaxConns int
	// MaxConnsPerAddress bounds the open connections of one address (IPv6: of one
	// /64); 0 means 1,000, less means no bound.
	MaxConnsPerAddress int
	// ProxyTrusted are the proxies that begin each connection with a PROXY
	// protocol header, version 1 or 2: from them it is required, and from nobody
	// else is it understood. Empty means that there are none.
	ProxyTrusted []netip.Prefix
	// HeaderTimeout bounds the wait for a PROXY header; 0 means 5s.
	HeaderTimeout time.Duration
	// Refused is told of each connection that is closed at once, with the limit;
	// nil means nobody. It is called from several goroutines.
	Refused func(limit string)
	// Log gets failures to accept; nil means nobody.
	Log *slog.Logger
}

// Listen listens as the options say. The context bounds the listening, not the
// listener. TCP connections are kept alive by probes.
func Listen(ctx context.Context, o Options) (*Listener, error) {
	if o.Network == "" {
		o.Network = "tcp"
	}
	l, err := Socket(ctx, o.Network, o.Addr)
	if err != nil {
		return nil, err
	}
	return Wrap(l, o), nil
}

// keepAlive are the probes of connections on which nothing passes.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 4}

// Socket is the socket that Listen wraps, for those who hand it on to another
// process.
func Socket(ctx context.Context, network, addr string) (net.Listener, error) {
	lc := net.ListenConfig{Control: control, KeepAliveConfig: keepAlive}
	return lc.Listen(ctx, network, addr)
}

// Adopt gives a socket that somebody else has opened the options of Socket: one of
// systemd's, or of the process before this one.
func Adopt(l net.Listener) (net.Listener, error) {
	t, ok := l.(*net.TCPListener)
	if !ok { // A Unix socket has none of them.
		return l, nil
	}
	raw, err := t.SyscallConn()
	if err == nil {
		err = control("", "", raw)
	}
	if err != nil && !errors.Is(err, syscall.ENOPROTOOPT) { // Multipath TCP has not got the option.
		return nil, fmt.Errorf("adopt a socket: %w", err)
	}
	return adopted{t}, nil
}

// adopted sets on each connection what Go keeps in the listener, not in the
// socket.
type adopted struct{ *net.TCPListener }

func (l adopted) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	_ = c.SetKeepAliveConfig(keepAlive) // It fails where the peer has gone already.
	return c, nil
}

// Listener is what Listen and Wrap return.
type Listener struct {
	inner net.Listener
	o     Options
	count counter

	end  context.Context // ends with Close
	stop context.CancelFunc

	halting atomic.Bool
	halted  chan struct{} // closed once the socket is, because of Halt
	halt    sync.Once

	// With proxies, connections are accepted by a goroutine, which never waits for
	// a header, and those that may go on come through here.
	ready chan net.Conn
	work  sync.WaitGroup
	dead  chan struct{} // closed once nothing more is accepted, because of err
	err   error
}

// Wrap bounds the connections of l. The result must be closed.
func Wrap(l net.Listener, o Options) *Listener {
	if o.MaxConns == 0 {
		o.MaxConns = defaultMaxConns
	}
	if o.MaxConnsPerAddress == 0 {
		o.MaxConnsPerAddress = defaultMaxConnsPerAddress
	}
	if o.HeaderTimeout <= 0 {
		o.HeaderTimeout = defaultHeaderTimeout
	}
	if o.Refused == nil {
		o.Refused = func(string) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &Listener{inner: l, o: o, halted: make(chan struct{})}
	w.count = counter{max: o.MaxConns, maxEach: o.MaxConnsPerAddress, each: map[netip.Addr]int{}, open: map[*conn]struct{}{}}
	w.end, w.stop = context.WithCancel(context.Background())
	if len(o.ProxyTrusted) > 0 {
		w.ready, w.dead = make(chan net.Conn), make(chan struct{})
		w.work.Go(w.acceptAll)
	}
	return w
}

// Accept returns the next connection that may go on. A failure that passes,
// such as too many open files, is waited out; any other ends the listener's
// use, as net/http and grpc-go expect.
func (l *Listener) Accept() (net.Conn, error) {
	if l.ready == nil {
		for {
			c, err := l.admit()
			if err != nil {
				return nil, err
			}
			if c.countPeer() {
				return c, nil
			}
		}
	}
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.dead:
		return nil, l.err
	}
}

// Close stops listening. Connections that were accepted stay open; those whose
// header has not come are closed.
func (l *Listener) Close() error {
	l.stop()
	err := l.inner.Close()
	if l.halting.Load() && errors.Is(err, net.ErrClosed) {
		err = nil
	}
	l.work.Wait()
	return err
}

// Addr is what is listened on.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// admit accepts until there is a connection within the bound on all.
func (l *Listener) admit() (*conn, error) {
	for wait := time.Duration(0); ; {
		inner, err := l.inner.Accept()
		if err != nil {
			if l.halting.Load() {
				return nil, l.afterHalt()
			}
			if !passes(err) || l.end.Err() != nil {
				return nil, err
			}
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			l.o.Log.Warn("cannot accept a connection, trying again", "addr", l.Addr().String(), "error", err, "wait", wait)
			select {
			case <-time.After(wait):
			case <-l.end.Done():
			}
			continue
		}
		wait = 0
		c := &conn{Conn: inner, l: l, peer: inner.RemoteAddr()}
		if !l.count.take(c) {
			l.o.Refused(LimitConnections)
			_ = inner.Close()
			continue
		}
		return c, nil
	}
}

// passes says whether a failure to accept may be over soon: the process or the
// machine has too many files open, or the peer has gone already (accept(2)).
func passes(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// acceptAll is Accept's work where there are proxies.
func (l *Listener) acceptAll() {
	for {
		c, err := l.admit()
		if err != nil {
			l.err = err
			close(l.dead)
			return
		}
		if !l.trusted(c.peer) {
			if c.countPeer() {
				l.deliver(c)
			}
			continue
		}
		l.work.Go(func() { // As many as MaxConns, for HeaderTimeout each.
			if c.readHeader() && c.countPeer() {
				l.deliver(c)
			}
		})
	}
}

func (l *Listener) deliver(c *conn) {
	select {
	case l.ready <- c:
	case <-l.end.Done():
		_ = c.Close()
	}
}

func (l *Listener) trusted(peer net.Addr) bool {
	a := addrOf(peer)
	for _, p := range l.o.ProxyTrusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// addrOf is the address of a connection's end, in its plain form; invalid for
// what is not TCP.
func addrOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}
