package aggregator

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	profilev1 "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"

	"github.com/sluice-gateway/sluice/gateway/wire"
)

// wireShop is the three services behind a real connection. Profiles hang until
// their caller gives up.
type wireShop struct {
	userv1.UnimplementedUserServiceServer
	orderv1.UnimplementedOrderServiceServer
	profilev1.UnimplementedProfileServiceServer

	userErr error
	gaveUp  chan error // receives the context error of every hanging call
}

func (w *wireShop) GetUser(context.Context, *userv1.GetUserRequest) (*userv1.User, error) {
	return ada, w.userErr
}

func (w *wireShop) ListOrders(context.Context, *orderv1.ListOrdersRequest) (*orderv1.ListOrdersResponse, error) {
	return adaOrders, nil
}

func (w *wireShop) GetProfile(ctx context.Context, _ *profilev1.GetProfileRequest) (*profilev1.Profile, error) {
	<-ctx.Done()
	w.gaveUp <- ctx.Err()
	return nil, status.FromContextError(ctx.Err()).Err()
}

// The fan-out relies on connections that honour their context. This is the one
// it meets in production, with real time: an answer before the caller's deadline,
// and backends that learn that nobody waits.
func TestOverTheWire(t *testing.T) {
	for _, tc := range []struct {
		name    string
		userErr error
		want    *bffv1.UserOverview
	}{
		{
			name: "an optional service hangs",
			want: &bffv1.UserOverview{User: ada, RecentOrders: adaOrders.GetOrders(), Partial: []*bffv1.PartialFailure{partial("profile", "DEADLINE_EXCEEDED", true)}},
		},
		{name: "the required one fails while another hangs", userErr: detailed(t).Err()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			shop := &wireShop{userErr: tc.userErr, gaveUp: make(chan error, 1)}
			conn := serveShop(t, shop)
			s, err := New(Options{Users: conn, Orders: conn, Profiles: conn})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			got, err := s.GetUserOverview(ctx, &bffv1.GetUserOverviewRequest{UserId: "ada"})
			if ctx.Err() != nil {
				t.Error("the answer came after the caller's deadline")
			}
			if !proto.Equal(status.Convert(err).Proto(), status.Convert(tc.userErr).Proto()) {
				t.Errorf("status %v, want %v", err, tc.userErr)
			}
			if !proto.Equal(read(t, got), tc.want) {
				t.Errorf("answer %v, want %v", got, tc.want)
			}
			if tc.userErr != nil {
				return // the profile's call may have been cancelled before it was sent
			}
			select {
			case <-shop.gaveUp:
			case <-time.After(5 * time.Second):
				t.Error("the hanging service never learned that its caller gave up")
			}
		})
	}
}

// overTheWire is Branches over a connection of grpc-go.
type overTheWire struct{ conn *grpc.ClientConn }

func (o overTheWire) Call(ctx context.Context, method string, request []byte) ([]byte, error) {
	var response wire.Frame
	err := o.conn.Invoke(ctx, method, &wire.Frame{Data: request}, &response, grpc.ForceCodecV2(wire.Codec{}))
	return response.Data, err
}

func serveShop(t *testing.T, shop *wireShop) Branches {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	userv1.RegisterUserServiceServer(server, shop)
	orderv1.RegisterOrderServiceServer(server, shop)
	profilev1.RegisterProfileServiceServer(server, shop)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	// Otherwise the first call's time would go into connecting.
	conn.Connect()
	for state := conn.GetState(); state.String() != "READY"; state = conn.GetState() {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if !conn.WaitForStateChange(ctx, state) {
			t.Fatalf("the connection is still %v", state)
		}
		cancel()
	}
	return overTheWire{conn}
}
