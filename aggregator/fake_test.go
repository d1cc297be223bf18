package aggregator

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

const (
	getUser    = userv1.UserService_GetUser_FullMethodName
	getProfile = profilev1.ProfileService_GetProfile_FullMethodName
	listOrders = orderv1.OrderService_ListOrders_FullMethodName
	getOrder   = orderv1.OrderService_GetOrder_FullMethodName
)

// behaviour is what a backend does with a call.
type behaviour func(ctx context.Context) (proto.Message, error)

// received is a call as a backend saw it.
type received struct {
	request  proto.Message
	value    any       // what the caller's context carried under ctxKey{}
	deadline time.Time // zero: none
	ended    error     // the call's context at the end of the call
}

type ctxKey struct{}

// backends is the connection to all three services. It records every call and
// does what the method's behaviour says; a method without one is UNIMPLEMENTED.
type backends struct {
	methods map[string]behaviour

	mu    sync.Mutex
	calls map[string]*received
}

func (b *backends) Call(ctx context.Context, method string, request []byte) ([]byte, error) {
	call := &received{request: requestOf(method), value: ctx.Value(ctxKey{})}
	if err := proto.Unmarshal(request, call.request); err != nil {
		return nil, err
	}
	call.deadline, _ = ctx.Deadline()
	b.mu.Lock()
	if b.calls == nil {
		b.calls = map[string]*received{}
	}
	b.calls[method] = call
	b.mu.Unlock()
	defer func() { call.ended = ctx.Err() }()

	do, ok := b.methods[method]
	if !ok {
		return nil, status.Error(codes.Unimplemented, method)
	}
	msg, err := do(ctx)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(msg)
}

func requestOf(method string) proto.Message {
	switch method {
	case getUser:
		return &userv1.GetUserRequest{}
	case getProfile:
		return &profilev1.GetProfileRequest{}
	case listOrders:
		return &orderv1.ListOrdersRequest{}
	}
	return &orderv1.GetOrderRequest{}
}

// with answers a copy of the backends' behaviours with some replaced.
func (b *backends) with(replaced map[string]behaviour) *backends {
	methods := map[string]behaviour{}
	for m, do := range b.methods {
		methods[m] = do
	}
	for m, do := range replaced {
		methods[m] = do
	}
	return &backends{methods: methods}
}

func answers(msg proto.Message) behaviour {
	return func(context.Context) (proto.Message, error) { return msg, nil }
}

func fails(err error) behaviour {
	return func(context.Context) (proto.Message, error) { return nil, err }
}

func failsWith(c codes.Code) behaviour { return fails(status.Error(c, "as told")) }

// after waits, as a gRPC call does: no longer than its context.
func after(d time.Duration, then behaviour) behaviour {
	return func(ctx context.Context) (proto.Message, error) {
		select {
		case <-time.After(d):
			return then(ctx)
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
}

// stubborn waits without regard to its context.
func stubborn(d time.Duration, then behaviour) behaviour {
	return func(ctx context.Context) (proto.Message, error) {
		time.Sleep(d)
		return then(ctx)
	}
}

func hangs() behaviour { return after(time.Hour, failsWith(codes.Unknown)) }

func panics(v any) behaviour {
	return func(context.Context) (proto.Message, error) { panic(v) }
}

func newServer(t testing.TB, b *backends, logs *bytes.Buffer) *Server {
	t.Helper()
	o := Options{Users: b, Orders: b, Profiles: b, Logger: slog.New(slog.DiscardHandler)}
	if logs != nil {
		o.Logger = slog.New(slog.NewTextHandler(logs, nil))
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read is an answer as its receiver parses it: what was handed on unread is there
// to be seen.
func read[M proto.Message](t testing.TB, answer M) M {
	t.Helper()
	if !answer.ProtoReflect().IsValid() { // Nil beside an error.
		return answer
	}
	b, err := proto.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	parsed := answer.ProtoReflect().New().Interface().(M)
	if err := proto.Unmarshal(b, parsed); err != nil {
		t.Fatal(err)
	}
	return parsed
}

var (
	ada        = &userv1.User{UserId: "ada", Email: "ada@example.com", DisplayName: "Ada"}
	adaProfile = &profilev1.Profile{UserId: "ada", Bio: "Counts."}
	order1     = &orderv1.Order{OrderId: "o1", UserId: "ada", State: orderv1.OrderState_ORDER_STATE_PAID}
	order2     = &orderv1.Order{OrderId: "o2", UserId: "ada", State: orderv1.OrderState_ORDER_STATE_PLACED}
	adaOrders  = &orderv1.ListOrdersResponse{Orders: []*orderv1.Order{order2, order1}, NextPageToken: "more"}
)

// healthy is the three services without trouble.
func healthy() *backends {
	return &backends{methods: map[string]behaviour{
		getUser:    answers(ada),
		getProfile: answers(adaProfile),
		listOrders: answers(adaOrders),
		getOrder:   answers(order1),
	}}
}
