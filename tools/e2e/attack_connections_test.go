package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"

	"github.com/sluice-gateway/sluice/gateway/gatewaytest/rawhttp2"
)

// hold opens a connection and says nothing on it. Kept is false when the other
// side has closed it at once.
func hold(t *testing.T, addr string) (c net.Conn, kept bool) {
	t.Helper()
	c, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	// grpc-go greets with SETTINGS, net/http with nothing.
	_, err = c.Read(make([]byte, 100))
	return c, err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

// TestAttackConnections: an address that has all the connections it may have
// gets no more, on each edge by itself, and gets one again when it closes one.
func TestAttackConnections(t *testing.T) {
	t.Parallel()
	const most = 20
	tg := startTarget(t, object{"http": object{"max_connections_per_address": most}, "grpc": object{"max_connections_per_address": most}}, nil)
	tg.measure(t)
	for name, addr := range map[string]string{"HTTP": tg.addr, "gRPC": tg.grpcAddr} {
		t.Run(name, func(t *testing.T) {
			before := tg.metric(t, "sluice_refused_total", `limit="connections_per_address"`)
			var open []net.Conn
			refused := 0
			for range most + 10 {
				if c, kept := hold(t, addr); kept {
					open = append(open, c)
				} else {
					refused++
				}
			}
			// One is of the ordinary caller, which goes on.
			if len(open) != most-1 || refused != 11 {
				t.Errorf("%d connections are open, %d refused", len(open), refused)
			}
			if n := tg.metric(t, "sluice_refused_total", `limit="connections_per_address"`) - before; int(n) != refused {
				t.Errorf("sluice_refused_total counts %v, want %d", n, refused)
			}
			tg.serves(t)
			for _, c := range open {
				_ = c.Close()
			}
			eventually(t, patience, func() error {
				c, kept := hold(t, addr)
				_ = c.Close()
				if !kept {
					return errors.New("no new connection is let in")
				}
				return nil
			})
		})
	}
	tg.serves(t)
	tg.bounded(t)
}

// TestAttackAddress: an address has one budget of requests for both edges,
// whoever it says it is, and whatever it asks for.
func TestAttackAddress(t *testing.T) {
	t.Parallel()
	limits := unreachable()
	limits["address"] = object{"requests": 1, "burst": 40}
	tg := startTarget(t, object{"limits": limits}, nil)
	client := userv1.NewUserServiceClient(tg.conn)
	counts := map[string]int{}
	for i := range 60 {
		// A new name and a new address each time, of no avail.
		fields := []string{"X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i), "Forwarded", fmt.Sprintf("for=198.51.100.%d", i), "X-API-Key", fmt.Sprint(i)}
		if i%2 == 0 {
			path := []string{"/v1/users/ada", "/nowhere", "//", "/docs"}[i/2%4]
			v := ask(t, tg.addr, path, fields)
			counts[fmt.Sprint("REST ", v.status == 429)]++
			if v.status == 429 && (v.reason != "ADDRESS_RATE_LIMITED" || v.header.Get("Retry-After") == "") {
				t.Errorf("%v %v", v, v.header)
			}
			continue
		}
		_, err := client.GetUser(metadata.NewOutgoingContext(bounded(t), metadata.Pairs(fields...)), &userv1.GetUserRequest{UserId: "ada"})
		code, reason := verdictOf(err)
		counts[fmt.Sprint("gRPC ", code == "RESOURCE_EXHAUSTED")]++
		if code == "RESOURCE_EXHAUSTED" && reason != "ADDRESS_RATE_LIMITED" {
			t.Errorf("%v", err)
		}
	}
	// A token comes back each second; machines may be slow, but not by half.
	admitted := counts["REST false"] + counts["gRPC false"]
	if admitted < 40 || admitted > 50 || counts["REST true"] < 5 || counts["gRPC true"] < 5 {
		t.Errorf("%v; want 40 admitted over both edges, and both refusing", counts)
	}
	refused := float64(counts["REST true"] + counts["gRPC true"])
	if n := tg.metric(t, "sluice_limit_decisions_total", `limit="address"`, `outcome="refused"`); n != refused {
		t.Errorf("sluice_limit_decisions_total counts %v refused, want %v", n, refused)
	}
	ctx := bounded(t)
	eventually(t, patience, func() error { return tg.servedHTTP(ctx) }) // The budget fills again.
	for _, l := range tg.accessLog(t) {
		if l.Client != "127.0.0.1" {
			t.Fatalf("logged as %+v", l)
		}
	}
}

// TestAttackForwarded: behind a trusted proxy the client is the last address that
// is not a proxy's, and what the client has put before it is nothing.
func TestAttackForwarded(t *testing.T) {
	t.Parallel()
	for header, at := range map[string]func(string) string{
		"x-forwarded-for": func(s string) string { return s },
		"forwarded": func(s string) string {
			var out []string
			for _, a := range strings.Split(s, ", ") {
				if strings.Contains(a, ":") {
					a = `"[` + a + `]"`
				}
				out = append(out, "for="+a)
			}
			return strings.Join(out, ", ")
		},
	} {
		t.Run(header, func(t *testing.T) {
			tg := startTarget(t, object{"client_address": object{"trusted_proxies": []string{"127.0.0.1", "10.0.0.0/8"}, "header": header}}, nil)
			for i, c := range []struct{ value, client string }{
				{"203.0.113.7", "203.0.113.7"},
				{"198.51.100.1, 203.0.113.7", "203.0.113.7"},
				{"10.1.1.1, 198.51.100.1, 203.0.113.7, 10.0.0.9", "203.0.113.7"},
				{"127.0.0.1, 203.0.113.7", "203.0.113.7"},
				{"2001:db8::1, 2001:db8::2", "2001:db8::2"},
				{"garbage, 203.0.113.7", "203.0.113.7"},
				{"203.0.113.7, garbage", "127.0.0.1"},
				{"203.0.113.7, garbage, 10.0.0.9", "10.0.0.9"},
				{strings.Repeat("198.51.100.1, ", 1000) + "203.0.113.7", "203.0.113.7"},
				{strings.Repeat("10.0.0.1, ", 1000) + "10.0.0.2", "10.0.0.1"},
			} {
				id := fmt.Sprintf("try-%d", i)
				if v := ask(t, tg.addr, "/v1/users/ada", append(bearer(tg.ada), "X-Request-Id", id, header, at(c.value))); v.status != 200 {
					t.Errorf("%.60s: %v", c.value, v)
				}
				l := tg.logged(t, id, func(l accessLine) bool { return l.RequestID == id })
				if l.Client != c.client {
					t.Errorf("%.60s: logged as %s, want %s", c.value, l.Client, c.client)
				}
				ctx := metadata.AppendToOutgoingContext(as(t, tg.ada), "x-request-id", id+"-grpc", header, at(c.value))
				if _, err := userv1.NewUserServiceClient(tg.conn).GetUser(ctx, &userv1.GetUserRequest{UserId: "ada"}); err != nil {
					t.Error(err)
				}
				l = tg.logged(t, id+"-grpc", func(l accessLine) bool { return l.RequestID == id+"-grpc" })
				if l.Client != c.client {
					t.Errorf("%.60s, over gRPC: logged as %s, want %s", c.value, l.Client, c.client)
				}
			}
		})
	}
}

// TestAttackProxyProtocol: with it, a trusted proxy's connection begins with a
// header that says who comes, or it is closed; what only looks like one is no
// request either.
func TestAttackProxyProtocol(t *testing.T) {
	t.Parallel()
	tg := startTarget(t, object{"client_address": object{"trusted_proxies": []string{"127.0.0.1"}, "header": "none", "proxy_protocol": true}}, nil)
	get := func(id string) string {
		return "GET /v1/users/ada HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + id + "\r\nX-Forwarded-For: 198.51.100.1\r\nConnection: close\r\n" + lines(bearer(tg.ada)) + "\r\n"
	}
	v2 := "\r\n\r\n\x00\r\nQUIT\n"
	ipv4 := v2 + "\x21\x11\x00\x0c" + "\xcb\x00\x71\x09" + "\x7f\x00\x00\x01" + "\x10\x00\x1f\x90"
	for name, c := range map[string]struct{ head, client string }{
		"version1":      {"PROXY TCP4 203.0.113.7 127.0.0.1 4000 8080\r\n", "203.0.113.7"},
		"version1-ipv6": {"PROXY TCP6 2001:db8::7 ::1 4000 8080\r\n", "2001:db8::7"},
		"version2":      {ipv4, "203.0.113.9"},
		"unknown":       {"PROXY UNKNOWN\r\n", "127.0.0.1"},
		"local":         {v2 + "\x20\x00\x00\x00", "127.0.0.1"},
		"none":          {"", ""},
		"two":           {"PROXY TCP4 203.0.113.7 127.0.0.1 4000 8080\r\nPROXY TCP4 203.0.113.8 127.0.0.1 4000 8080\r\n", "400"},
		"garbled":       {"PROXY TCP4 203.0.113.7\r\n", ""},
		"no-address":    {"PROXY TCP4 evil.test 127.0.0.1 4000 8080\r\n", ""},
		"long":          {"PROXY TCP4 203.0.113.7 127.0.0.1 4000 8080" + strings.Repeat(" ", 200) + "\r\n", ""},
		"udp":           {v2 + "\x21\x12\x00\x0c" + strings.Repeat("\x01", 12), ""},
		"64KB":          {v2 + "\x21\x11\xff\xff" + strings.Repeat("\x00", 1<<16), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := exchange(t, tg.addr, c.head+get(name), 1)
			switch {
			case c.client == "":
				if len(got) != 0 {
					t.Errorf("answered: %v", got)
				}
			case c.client == "400":
				if len(got) != 1 || got[0].status != 400 || got[0].reason != "net/http" {
					t.Errorf("%v", got)
				}
			case len(got) != 1 || got[0].status != 200:
				t.Errorf("%v", got)
			default:
				if l := tg.logged(t, name, func(l accessLine) bool { return l.RequestID == name }); l.Client != c.client {
					t.Errorf("logged as %s, want %s", l.Client, c.client)
				}
			}
		})
	}
	if n := tg.metric(t, "sluice_refused_total", `limit="proxy_header"`); n != 6 {
		t.Errorf("sluice_refused_total counts %v, want 6", n)
	}
	// Over gRPC the header is wanted as well.
	c, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", tg.grpcAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, c); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the gRPC edge says %d bytes, %v, to a proxy that does not say who comes", n, err)
	}
}

// TestAttackDeaf: who asks much and reads nothing is let go, or at least costs
// no more than its buffers.
func TestAttackDeaf(t *testing.T) {
	t.Parallel()
	plain, _, edges := http2Targets(t)
	for _, e := range edges {
		if e.tls != nil {
			continue
		}
		t.Run(e.name, func(t *testing.T) {
			c := rawhttp2.DialDeaf(t, e.addr, nil)
			// The server stops reading when it cannot write.
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = each(200_000, func(i uint32) error { return c.Ping() })
			}()
			select {
			case <-done:
			case <-time.After(3 * time.Second):
			}
			if err := plain.served(t); err != nil {
				t.Error(err)
			}
			c.Close()
			<-done
			plain.bounded(t)
		})
	}
}
