package discovery

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/dns/dnsmessage"
)

// nameServer is an authoritative server on loopback.
type nameServer struct {
	conn net.PacketConn

	mu      sync.Mutex
	addrs   []string
	code    dnsmessage.RCode
	queries int
}

func serveDNS(t *testing.T, addrs ...string) *nameServer {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, done := &nameServer{conn: c, addrs: addrs}, make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := s.answer(buf[:n]); answer != nil {
				_, _ = c.WriteTo(answer, from)
			}
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return s
}

func (s *nameServer) set(code dnsmessage.RCode, addrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code, s.addrs = code, addrs
}

func (s *nameServer) answer(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries++
	q := m.Questions[0]
	m.Response, m.Authoritative, m.RCode, m.Additionals = true, true, s.code, nil
	for _, a := range s.addrs {
		ip := netip.MustParseAddr(a)
		h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
		switch {
		case s.code != 0:
		case q.Type == dnsmessage.TypeA && ip.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: ip.As4()}})
		case q.Type == dnsmessage.TypeAAAA && ip.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
		}
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

// TestDNS: all addresses of both kinds; changes are followed; a name that is gone, or a
// server that breaks, changes nothing.
func TestDNS(t *testing.T) {
	s, reg := serveDNS(t, "10.0.0.2", "10.0.0.1", "fd00::1"), prometheus.NewRegistry()
	r := registry(t, Options{DNS: s.resolver(), DNSInterval: 20 * time.Millisecond, Metrics: reg})
	w, _ := watch(t, r, "dns:///users.test.:80")
	w.until(t, "10.0.0.1:80 10.0.0.2:80 [fd00::1]:80")
	s.set(0, "10.0.0.3", "10.0.0.1")
	w.until(t, "10.0.0.1:80 10.0.0.3:80")
	for _, code := range []dnsmessage.RCode{dnsmessage.RCodeNameError, dnsmessage.RCodeServerFailure, dnsmessage.RCodeSuccess} {
		w.fails(t, func() { s.set(code) })
	}
	if set, n, _ := w.last(); set != "10.0.0.1:80 10.0.0.3:80" || n != 2 {
		t.Errorf("the set became %q, the %d.", set, n)
	}
	s.set(0, "10.0.0.9")
	w.until(t, "10.0.0.9:80")
	got := counted(t, reg)
	if got["dns changed"] != 3 || got["dns error"] < 3 {
		t.Errorf("counted: %v", got)
	}
}

// TestResolveNow: a lost connection has the name looked up at once, but not as often as
// connections are lost.
func TestResolveNow(t *testing.T) {
	s := serveDNS(t, "10.0.0.1")
	r := registry(t, Options{DNS: s.resolver(), DNSInterval: time.Hour})
	w, lookup := watch(t, r, "users.test.:80")
	w.until(t, "10.0.0.1:80")
	s.set(0, "10.0.0.2")
	for range 1000 {
		lookup.ResolveNow()
	}
	w.until(t, "10.0.0.2:80")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queries > 8 {
		t.Errorf("%d queries", s.queries)
	}
}

// TestTooMany: an answer that is too large is not believed.
func TestTooMany(t *testing.T) {
	r := registry(t, Options{})
	var sets, failures int
	f := r.feed(DNS, "x", func(_ []Backend, err error) {
		if sets++; err != nil {
			failures++
		}
	})
	f.tell(make([]Backend, MaxBackends+1))
	if sets != 1 || failures != 1 {
		t.Errorf("%d updates, %d failures", sets, failures)
	}
}

// TestNotConfigured: what is missing is named.
func TestNotConfigured(t *testing.T) {
	r := registry(t, Options{})
	for target, want := range map[string]string{
		"etcd:///users": "configure discovery.etcd.endpoints", "consul:///users": "configure discovery.consul", "xds:///users": "tag xds", "nope": "write host:port",
	} {
		if _, err := r.Resolve(target); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", target, err)
		}
	}
	for name, o := range map[string]Options{
		"discovery.etcd: endpoints: name at least one":  {Etcd: &EtcdOptions{}},
		"discovery.etcd: endpoints: \"10.0.0.1:2379\"":  {Etcd: &EtcdOptions{Endpoints: []string{"10.0.0.1:2379"}}},
		"discovery.etcd: password_file":                 {Etcd: &EtcdOptions{Endpoints: []string{"http://10.0.0.1:2379"}, Username: "x", PasswordFile: "nowhere"}},
		"discovery.consul: address: \"127.0.0.1:8500\"": {Consul: &ConsulOptions{Address: "127.0.0.1:8500"}},
		"discovery.consul: token_file":                  {Consul: &ConsulOptions{TokenFile: "nowhere"}},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want %s: %v", name, err)
		}
	}
}
