package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// idlers are the clients that ask and do not read.
const idlers = 50

// inMemory is a figure of /proc/pid/status in bytes: VmRSS is what is resident,
// VmHWM the most that ever was. They are reported and not judged, for they depend on
// the kernel and its page size.
func inMemory(t *testing.T, p *process, name string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), name+":")
	rest, _, _ = strings.Cut(rest, "kB")
	n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
	if !found || err != nil {
		t.Fatalf("no %s: %v", name, err)
	}
	return n << 10
}

// ignore asks over a connection of its own, reads the status and then nothing.
func ignore(t *testing.T, g *gateway, path, token string) net.Conn {
	t.Helper()
	addr := strings.TrimPrefix(g.url, "http://")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := errors.Join(c.(*net.TCPConn).SetReadBuffer(4<<10), c.SetDeadline(time.Now().Add(patience))); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, addr, token); err != nil {
		t.Fatal(err)
	}
	if status, err := bufio.NewReaderSize(c, 16).ReadString('\n'); err != nil || !strings.Contains(status, " 200 ") {
		t.Fatalf("%q, %v", status, err)
	}
	return c
}

// stuck waits until the service has sent nothing for a while: all of them wait.
func stuck(t *testing.T, b *scripted) (sent int64) {
	t.Helper()
	still := 0
	eventually(t, patience, func() error {
		if now := b.sent.Load(); now != sent || now == 0 {
			sent, still = now, 0
		} else if still++; still >= 25 {
			return nil
		}
		return fmt.Errorf("the service is still sending, %d bytes", sent)
	})
	return sent
}

// level: the live heap does not grow while nobody reads.
func level(t *testing.T, g *gateway, heap int64) {
	t.Helper()
	time.Sleep(300 * time.Millisecond)
	if now := settled(t, g).heap; now > heap+heap/4 {
		t.Errorf("%d bytes of heap are in use, and a moment ago it was %d", now, heap)
	}
}

// TestStreamsThatNobodyReads: the service has more to say than anybody reads. It
// is held back, the gateway keeps what fits a window for each, and serves others.
func TestStreamsThatNobodyReads(t *testing.T) {
	t.Parallel()
	message := wireOf(t, anOrder(strings.Repeat("x", 64<<10)))
	for edge, open := range map[string]func(t *testing.T, g *gateway, token string){
		"REST": func(t *testing.T, g *gateway, token string) { ignore(t, g, "/v1/orders/ada-0001:watch", token) },
		"gRPC": func(t *testing.T, g *gateway, token string) {
			cc, err := grpc.NewClient(g.grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cc.Close() })
			if _, err := orderv1.NewOrderServiceClient(cc).WatchOrder(as(t, token), &orderv1.WatchOrderRequest{OrderId: "ada-0001"}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(edge, func(t *testing.T) {
			t.Parallel()
			b := startScripted(t, map[string]script{
				"GetUser": answering(wireOf(t, &userv1.User{UserId: "ada"})),
				"WatchOrder": func(send func([]byte) error) (err error) {
					for err == nil {
						err = send(message)
					}
					return err
				},
			})
			all := &service{addr: b.addr}
			config := remote(makeKeys(t), map[string]*service{userService: all, orderService: all})
			limits := unreachable()
			limits["classes"].(object)["stream"].(object)["max_in_flight_per_caller"] = 2 * idlers
			config["limits"] = limits
			g := startGateway(t, setup{config: config})
			token := g.token(t)
			g.rest(t, "GET", "/v1/users/ada", token, "").want(t, 200, &struct{}{})
			before := settled(t, g)
			for range idlers {
				open(t, g, token)
			}
			sent := stuck(t, b)
			resident, held := inMemory(t, g.process, "VmRSS"), settled(t, g)
			t.Logf("%d streams: the service has sent %d KiB; heap %d -> %d KiB, %d KiB resident", idlers, sent>>10, before.heap>>10, held.heap>>10, resident>>10)
			// Three messages, each in memory of grpc-go's pool: 1 MiB for more than 32 KiB.
			if most := before.heap + idlers<<20; held.heap > most {
				t.Errorf("%d bytes of heap, want at most %d: 4 MiB a stream", held.heap, most)
			}
			level(t, g, held.heap)
			g.rest(t, "GET", "/v1/users/ada", token, "").want(t, 200, &struct{}{})
		})
	}
}

// TestLargeAnswersThatNobodyReads: each is held once, as JSON, while its client does
// not read it, and given back when the client is gone.
func TestLargeAnswersThatNobodyReads(t *testing.T) {
	t.Parallel()
	// Larger than what the kernel takes, so that the gateway cannot be done with it.
	g := startScripted(t, map[string]script{
		"ListOrders": answering(wireOf(t, ordersOf(5<<20))), "GetUser": answering(wireOf(t, &userv1.User{UserId: "ada"})),
	}).gateway(t)
	token := g.token(t)
	whole := int64(len(g.rest(t, "GET", "/v1/users/ada/orders", token, "").body))
	before := settled(t, g)
	var open []net.Conn
	for range idlers {
		open = append(open, ignore(t, g, "/v1/users/ada/orders", token))
	}
	held := settled(t, g)
	resident := inMemory(t, g.process, "VmRSS")
	t.Logf("%d answers of %d KiB: heap %d -> %d KiB, %d KiB resident", idlers, whole>>10, before.heap>>10, held.heap>>10, resident>>10)
	if most := before.heap + 3*idlers*whole/2; held.heap > most {
		t.Errorf("%d bytes of heap, want at most %d: half as much again as the answers", held.heap, most)
	}
	if held.heap < before.heap+idlers*whole/2 {
		t.Errorf("%d bytes of heap, and %d before: nothing waits for its reader, the test shows nothing", held.heap, before.heap)
	}
	g.rest(t, "GET", "/v1/users/ada", token, "").want(t, 200, &struct{}{})
	level(t, g, held.heap)
	for _, c := range open {
		c.Close()
	}
	eventually(t, patience, func() error {
		if after := settled(t, g); after.heap > before.heap+16<<20 || after.goroutines > before.goroutines+20 {
			return fmt.Errorf("heap %d KiB, %d goroutines", after.heap>>10, after.goroutines)
		}
		return nil
	})
}

// TestSmallMemory: with what a container of 128 MiB leaves to Go, the gateway
// serves many callers at once, and what stays in use is a part of it. What is
// resident is logged: the kernel has a say in it.
func TestSmallMemory(t *testing.T) {
	t.Parallel()
	k := makeKeys(t)
	users, orders, profiles := startService(t, service{name: "user", k: k}), startService(t, service{name: "order", k: k}), startService(t, service{name: "profile", k: k})
	config := remote(k, map[string]*service{userService: users, orderService: orders, profileService: profiles})
	config["log"] = object{"access_off": true}
	g := startGateway(t, setup{config: config, env: []string{"GOMEMLIMIT=" + strconv.Itoa(128<<20*85/100)}})
	token := g.token(t)
	var next, served atomic.Int64
	var work sync.WaitGroup
	for range 64 {
		work.Go(func() {
			for n := next.Add(1); n <= 3000; n = next.Add(1) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				path := []string{"/v1/users/ada", "/v1/users/ada/overview", "/v1/users/ada/orders?page_size=20"}[n%3]
				a, err := g.send(ctx, "GET", path, token, nil, "Accept-Encoding", []string{"gzip", "zstd", "identity"}[n/3%3])
				cancel()
				if err != nil || a.status != 200 {
					t.Errorf("%s: %d %v %.200s", path, a.status, err, a.body)
					return
				}
				served.Add(1)
			}
		})
	}
	work.Wait()
	most := inMemory(t, g.process, "VmHWM")
	t.Logf("%d answers, at most %d MiB resident", served.Load(), most>>20)
	if heap := settled(t, g).heap; heap > 64<<20 {
		t.Errorf("%d MiB of heap are in use after the load", heap>>20)
	}
}
