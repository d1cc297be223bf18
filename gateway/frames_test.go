package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/shop"
)

// quarantine is a pool that spoils what is given back and lends it to nobody for
// a while: who reads it reads that, and what is written to it is found.
type quarantine struct {
	mem.BufferPool
	mu   sync.Mutex
	held [256]*[]byte
	next int
	bad  error // the first
}

const spoilt = 0xee

var spoilt64K = bytes.Repeat([]byte{spoilt}, 64<<10)

// Put implements mem.BufferPool.
func (q *quarantine) Put(b *[]byte) {
	spoil((*b)[:cap(*b)])
	if cap(*b) > 64<<10 { // Rare, and much to keep.
		q.BufferPool.Put(b)
		return
	}
	q.mu.Lock()
	old := q.held[q.next]
	q.held[q.next] = b
	q.next = (q.next + 1) % len(q.held)
	q.mu.Unlock()
	if old == nil {
		return
	}
	if all := (*old)[:cap(*old)]; !bytes.Equal(all, spoilt64K[:len(all)]) {
		q.mu.Lock()
		q.bad = errors.Join(q.bad, errors.New("memory was written after it was given back"))
		q.mu.Unlock()
		return
	}
	q.BufferPool.Put(old)
}

func spoil(b []byte) {
	for len(b) > 0 {
		b = b[copy(b, spoilt64K):]
	}
}

func (q *quarantine) err() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bad
}

// pool is in place before any server or connection is made, for all tests of the
// package; benchmarks have grpc-go's.
var pool = func() *quarantine {
	q := &quarantine{BufferPool: mem.DefaultBufferPool()}
	for _, arg := range os.Args[1:] {
		if strings.HasPrefix(arg, "-test.bench=") {
			return q
		}
	}
	experimental.SetDefaultBufferPool(q)
	return q
}()

// TestFrames: whatever calls do beside each other (cancel, fail, read slowly, leave,
// compress), each gets its own answer, whole, over both edges and to services in
// this process and behind TCP. The pool spoils what is read too late.
func TestFrames(t *testing.T) {
	t.Run("in-process", func(t *testing.T) {
		g := gatewaytest.Start(t, nil, gateway.WithServices(append(shop.Services(), gatewaytest.TestService(nil))...))
		mixed(t, g, g)
	})
	t.Run("remote", func(t *testing.T) {
		addr, _ := gatewaytest.Serve(t, func(r grpc.ServiceRegistrar) { testv1.RegisterTestServiceServer(r, &gatewaytest.Server{}) })
		mixed(t, at(t, addr), remoteShop(t).Gateway)
	})
	if err := pool.err(); err != nil {
		t.Error(err)
	}
}

// mixed makes calls of every kind at once, in an order of chance.
func mixed(t *testing.T, test, shop *gatewaytest.Gateway) {
	const callers, calls = 8, 80
	m := newMix(t, test, shop)
	kinds := []func(*visitor) error{
		(*visitor).echo, (*visitor).echo, (*visitor).frame, (*visitor).rest, (*visitor).rest, (*visitor).fails,
		(*visitor).down, (*visitor).downREST, (*visitor).chat, (*visitor).orders, (*visitor).overview, (*visitor).read,
	}
	seed := rand.Uint64()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			c := &visitor{mix: m, rng: rand.New(rand.NewPCG(seed, uint64(i)))} //nolint:gosec // Not for secrets.
			for n := range calls {
				c.n, c.name = n, fmt.Sprintf("%d-%d", i, n)
				if err := kinds[c.rng.IntN(len(kinds))](c); err != nil {
					t.Errorf("seed %d, call %s: %v", seed, c.name, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// mix is what the callers share: connections, and answers of the shop as they are
// when nothing else goes on.
type mix struct {
	test     testv1.TestServiceClient
	raw      *grpc.ClientConn // sends frames
	list     orderv1.OrderServiceClient
	bff      bffv1.BffServiceClient
	testURL  string
	shopURL  string
	ctx      context.Context // of calls to the test service
	shopCtx  context.Context
	bearer   string
	bought   string
	client   *http.Client
	pages    map[string][]byte // of the shop, by path
	orderAll *orderv1.ListOrdersResponse
	overAll  *bffv1.UserOverview
}

func newMix(t *testing.T, test, shop *gatewaytest.Gateway) *mix {
	t.Helper()
	const scopes = "users.read orders.read"
	m := &mix{
		test: testv1.NewTestServiceClient(test.Conn), raw: rawConn(t, test), testURL: test.URL, ctx: test.As(t, "ada", "test.write"), bearer: "Bearer " + test.Token(t, "ada", "test.write"),
		list: orderv1.NewOrderServiceClient(shop.Conn), bff: bffv1.NewBffServiceClient(shop.Conn), shopURL: shop.URL, shopCtx: shop.As(t, "ada", scopes), bought: "Bearer " + shop.Token(t, "ada", scopes),
		client: &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16}}, pages: map[string][]byte{},
	}
	t.Cleanup(m.client.CloseIdleConnections)
	var err error
	if m.orderAll, err = m.list.ListOrders(m.shopCtx, &orderv1.ListOrdersRequest{UserId: "ada"}); err != nil {
		t.Fatal(err)
	}
	if m.overAll, err = m.bff.GetUserOverview(m.shopCtx, &bffv1.GetUserOverviewRequest{UserId: "ada"}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/users/ada", "/v1/users/ada/orders?page_size=20", "/v1/users/ada/overview", "/v1/users/ada/profile"} {
		page, code, err := m.fetch(t.Context(), "GET", m.shopURL+path, m.bought, "", nil)
		if err != nil || code != http.StatusOK {
			t.Fatalf("%s: %d, %v", path, code, err)
		}
		m.pages[path] = page
	}
	return m
}

// fetch makes a request over REST, and reads the answer in the encoding asked for.
func (m *mix) fetch(ctx context.Context, method, url, bearer, encoding string, body []byte) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Authorization", bearer)
	req.Header.Set("Content-Type", "application/json")
	if encoding != "" {
		req.Header.Set("Accept-Encoding", encoding)
	}
	res, err := m.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	var from io.Reader = res.Body
	switch res.Header.Get("Content-Encoding") {
	case "gzip":
		if from, err = gzip.NewReader(res.Body); err != nil {
			return nil, 0, err
		}
	case "zstd":
		z, err := zstd.NewReader(res.Body, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, 0, err
		}
		defer z.Close()
		from = z
	}
	all, err := io.ReadAll(from)
	return all, res.StatusCode, err
}
