package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// counted is a backend that counts what reaches it, and does with it what the test
// says. It speaks gRPC, for any of the shop's services, and plain HTTP.
type counted struct {
	grpcAddr, httpAddr string
	answers            map[string][]byte // by the last part of the method

	mu             sync.Mutex
	do             func(ctx context.Context) error // nil: answers at once
	calls          map[string]int                  // by the last part of the method; plain HTTP is "HTTP"
	inFlight, most int
	cancelled      int
}

// newCounted starts one. It answers GetUser, ListOrders and GetProfile.
func newCounted(t *testing.T) *counted {
	t.Helper()
	b := &counted{calls: map[string]int{}, answers: map[string][]byte{
		"GetUser":    wireOf(t, &userv1.User{UserId: "ada", DisplayName: "Ada"}),
		"ListOrders": wireOf(t, &orderv1.ListOrdersResponse{Orders: []*orderv1.Order{anOrder("counted")}}),
		"GetProfile": wireOf(t, &profilev1.Profile{UserId: "ada", Location: "London"}),
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.grpcAddr = l.Addr().String()
	srv := grpc.NewServer(grpc.ForceServerCodecV2(verbatim{}), grpc.UnknownServiceHandler(b.overGRPC))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	plain := httptest.NewServer(http.HandlerFunc(b.overHTTP))
	b.httpAddr = plain.Listener.Addr().String()
	t.Cleanup(func() {
		srv.Stop()
		plain.CloseClientConnections()
		plain.Close()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return b
}

func (b *counted) overGRPC(_ any, s grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(s)
	name := method[strings.LastIndexByte(method, '/')+1:]
	var request []byte
	if err := s.RecvMsg(&request); err != nil {
		return err
	}
	if err := b.called(s.Context(), name); err != nil {
		return err
	}
	return s.SendMsg(b.answers[name])
}

func (b *counted) overHTTP(w http.ResponseWriter, r *http.Request) {
	if err := b.called(r.Context(), "HTTP"); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"payments":[]}`))
}

// called counts a call in and out.
func (b *counted) called(ctx context.Context, name string) error {
	b.mu.Lock()
	b.calls[name]++
	b.inFlight++
	b.most = max(b.most, b.inFlight)
	do := b.do
	b.mu.Unlock()
	var err error
	if do != nil {
		err = do(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inFlight--
	if ctx.Err() != nil {
		b.cancelled++
	}
	return err
}

// does says what becomes of calls from now on.
func (b *counted) does(do func(ctx context.Context) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.do = do
}

// breaks is what a backend does that answers at once, and badly.
func breaks(context.Context) error { return status.Error(codes.Unavailable, "broken on purpose") }

// holds keeps calls from now on until they are let go, or their callers leave.
func (b *counted) holds() (letGo func()) {
	free := make(chan struct{})
	b.does(func(ctx context.Context) error {
		select {
		case <-free:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return sync.OnceFunc(func() { b.does(nil); close(free) })
}

// seen is what has reached a backend.
type seen struct{ calls, inFlight, most, cancelled int }

func (b *counted) seen() seen {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for c := range maps.Values(b.calls) {
		n += c
	}
	return seen{n, b.inFlight, b.most, b.cancelled}
}

// startCounted starts a gateway of which these are the backends of all services of
// the shop, and of the plain HTTP one. More is added to its configuration, and
// resilience is that of all of them.
func startCounted(t *testing.T, resilience, more object, backends ...*counted) caller {
	t.Helper()
	var overGRPC, overHTTP []object
	for _, b := range backends {
		overGRPC, overHTTP = append(overGRPC, object{"address": b.grpcAddr}), append(overHTTP, object{"address": b.httpAddr})
	}
	config := object{
		"upstreams":  object{userService: object{"endpoints": overGRPC}, orderService: object{"endpoints": overGRPC}, profileService: object{"endpoints": overGRPC}},
		"resilience": resilience, "grpc": object{"reflection": true},
	}
	maps.Copy(config, plainRoute(overHTTP, object{"deadline": "2s"}))
	maps.Copy(config, more)
	g := startGateway(t, setup{config: config})
	return withBearer(g, g.token(t))
}

// plainRoute is the configuration of payments at these backends.
func plainRoute(backends []object, more object) object {
	route := object{
		"name": "payments", "upstream": "payments", "match": object{"template": "/v1/payments/{user_id}/**"},
		"require": object{"authenticated": true, "owner": "user_id"}, "limit": object{"class": "read"},
	}
	maps.Copy(route, more)
	return object{"http_upstreams": object{"payments": object{"endpoints": backends}}, "http_routes": []object{route}}
}

// getPayments is the plain HTTP route.
var getPayments = method{path: "/v1/payments/ada"}

// ways are the ways to a backend: each edge to a service, and the plain HTTP route.
func (c caller) ways(m method) map[string]asker {
	return map[string]asker{"REST": c.overREST(m), "gRPC": c.overGRPC(m), "HTTP": c.overREST(getPayments)}
}

// listOrders has the class read.
func listOrders(id string) method {
	return method{"/v1/users/" + id + "/orders", func(ctx context.Context, cc grpc.ClientConnInterface, o ...grpc.CallOption) error {
		_, err := orderv1.NewOrderServiceClient(cc).ListOrders(ctx, &orderv1.ListOrdersRequest{UserId: id}, o...)
		return err
	}}
}

// getProfile has the class read, and a cache.
func getProfile(id string) method {
	return method{"/v1/users/" + id + "/profile", func(ctx context.Context, cc grpc.ClientConnInterface, o ...grpc.CallOption) error {
		_, err := profilev1.NewProfileServiceClient(cc).GetProfile(ctx, &profilev1.GetProfileRequest{UserId: id}, o...)
		return err
	}}
}

// repeat makes so many calls, some at once, and returns the replies.
func repeat(t *testing.T, n, atOnce int, ask asker) []reply {
	t.Helper()
	var (
		mu  sync.Mutex
		out []reply
		wg  sync.WaitGroup
	)
	ctx, next := bounded(t), make(chan struct{}, n)
	for range n {
		next <- struct{}{}
	}
	close(next)
	for range atOnce {
		wg.Go(func() {
			for range next {
				r := ask(ctx)
				mu.Lock()
				out = append(out, r)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return out
}

// allWell fails the test unless every reply is 200, and returns the slowest.
func allWell(t *testing.T, what string, replies []reply) {
	t.Helper()
	bad := slices.DeleteFunc(slices.Clone(replies), func(r reply) bool { return r.is(codes.OK, "") })
	if len(bad) > 0 {
		t.Errorf("%s: %d of %d failed, such as %v", what, len(bad), len(replies), bad[0])
	}
}

// refused checks a 503 with what a caller needs, and returns whether it is one.
func (r reply) refused() bool {
	return r.err == nil && r.code == codes.Unavailable && (r.status == 0 && r.retry > 0 || r.status == 503 && r.retryAfter != "")
}

// atLeast is an error unless a value has come so far.
func atLeast(got, want float64) error {
	if got < want {
		return fmt.Errorf("%v, want %v at least", got, want)
	}
	return nil
}
