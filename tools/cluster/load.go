package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// The kinds of requests that the load is made of, in turn.
const (
	getUser = iota
	getOverview
	getOrders
	callUser // gRPC
	postOrder
	kinds
)

var kindNames = [kinds]string{"GET user", "GET orders and all (overview)", "GET orders", "gRPC GetUser", "POST order"}

// failure is a request whose client got no good answer.
type failure struct {
	at   time.Time
	kind int
	why  string
}

// load sends requests at a steady rate to both gateways in turn, as the clients
// behind a load balancer do: where a gateway gives no answer, the other one is asked.
type load struct {
	c      *cluster
	client *http.Client
	grpc   [2]userv1.UserServiceClient
	conns  []*grpc.ClientConn

	sent, movedOn, partial atomic.Int64
	slowest                atomic.Int64 // of the good answers since it was reset, in nanoseconds
	keys                   string       // begins the keys of orders
	mu                     sync.Mutex
	failures               []failure
	orders                 []string // that were acknowledged
}

// maxTime is how long a client waits for an answer.
const maxTime = 5 * time.Second

func (c *cluster) newLoad() (*load, error) {
	l := &load{c: c, keys: fmt.Sprintf("cluster-%d", time.Now().UnixNano()), client: &http.Client{Timeout: maxTime, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	for i, g := range c.gateways {
		cc, err := grpc.NewClient(g.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig(),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}, MinConnectTimeout: time.Second}))
		if err != nil {
			return nil, err
		}
		l.conns = append(l.conns, cc)
		l.grpc[i] = userv1.NewUserServiceClient(cc)
	}
	return l, nil
}

func (l *load) close() error {
	l.client.CloseIdleConnections()
	var errs []error
	for _, cc := range l.conns {
		errs = append(errs, cc.Close())
	}
	return errors.Join(errs...)
}

// run sends until ctx ends, rate requests a second.
func (l *load) run(ctx context.Context, rate int) {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	var open sync.WaitGroup
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			open.Wait()
			return
		case <-tick.C:
			open.Go(func() { l.one(n) })
		}
	}
}

// one sends a request, and once more to the other gateway where the first gave no
// answer: reading twice does no harm, and an order is placed with a key that makes
// it one however often it is sent.
func (l *load) one(n int) {
	kind, to, began := n%kinds, n/kinds%2, time.Now()
	l.sent.Add(1)
	err := l.send(kind, to, n)
	if errors.As(err, new(brokenError)) {
		l.movedOn.Add(1)
		err = l.send(kind, 1-to, n)
	}
	if err != nil {
		l.mu.Lock()
		l.failures = append(l.failures, failure{time.Now(), kind, err.Error()})
		l.mu.Unlock()
		return
	}
	took := int64(time.Since(began))
	for old := l.slowest.Load(); took > old && !l.slowest.CompareAndSwap(old, took); old = l.slowest.Load() {
	}
}

// brokenError is what a client sees of a gateway that is gone: no answer at all.
type brokenError struct{ error }

func (l *load) send(kind, to, n int) error {
	switch kind {
	case getUser:
		return l.get(to, "/v1/users/ada")
	case getOverview:
		return l.get(to, "/v1/users/ada/overview")
	case getOrders:
		return l.get(to, "/v1/users/ada/orders?page_size=5")
	case postOrder:
		return l.post(to, n)
	}
	return l.call(to)
}

func (l *load) get(to int, path string) error {
	body, err := l.do(to, http.MethodGet, path, nil, "")
	if err == nil && bytes.Contains(body, []byte(`"partial":[{`)) {
		l.partial.Add(1)
	}
	return err
}

func (l *load) post(to, n int) error {
	key := fmt.Sprintf("%s-%d", l.keys, n)
	body, err := l.do(to, http.MethodPost, "/v1/users/ada/orders",
		fmt.Appendf(nil, `{"note":%q,"lines":[{"sku":"tea","title":"Tea","quantity":1,"price":{"currencyCode":"EUR","units":"3"}}]}`, key), key)
	if err != nil {
		return err
	}
	var order struct{ OrderID string }
	if err := json.Unmarshal(body, &order); err != nil || order.OrderID == "" {
		return fmt.Errorf("no order in the answer: %w", err)
	}
	l.mu.Lock()
	l.orders = append(l.orders, order.OrderID)
	l.mu.Unlock()
	return nil
}

func (l *load) do(to int, method, path string, body []byte, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), maxTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+l.c.gateways[to].http+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+l.c.token)
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := l.client.Do(req)
	if err != nil {
		return nil, brokenError{errors.New("no answer")}
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, brokenError{errors.New("half an answer")}
	}
	if res.StatusCode >= http.StatusInternalServerError || res.StatusCode == http.StatusTooManyRequests {
		return nil, errors.New(res.Status)
	}
	if res.StatusCode >= http.StatusBadRequest {
		return nil, fmt.Errorf("%s: %s", res.Status, answer)
	}
	return answer, nil
}

func (l *load) call(to int) error {
	ctx, cancel := context.WithTimeout(context.Background(), maxTime)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+l.c.token)
	_, err := l.grpc[to].GetUser(ctx, &userv1.GetUserRequest{UserId: "ada"})
	st := status.Convert(err)
	switch {
	case err == nil:
		return nil
	case st.Code() == codes.Unavailable && !strings.HasPrefix(st.Message(), "the service is "):
		return brokenError{errors.New(st.Message())} // No answer of the gateway's: its connection broke.
	}
	return errors.New(st.Code().String())
}

// audit holds the orders that were acknowledged against the database: how many there
// were, how many are not there, and how many are there twice under one key.
func (l *load) audit(ctx context.Context) (acknowledged, lost, twice int, err error) {
	keys := map[string]bool{}
	there := map[string]bool{}
	err = l.c.postgres.query(ctx, "shop_order", "SELECT order_id, note FROM orders", func(id, key string) {
		there[id] = true
		if strings.HasPrefix(key, l.keys) && keys[key] {
			twice++
		}
		keys[key] = true
	})
	for _, id := range l.orders {
		if !there[id] {
			lost++
		}
	}
	return len(l.orders), lost, twice, err
}
