package e2e

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	typev1 "github.com/sluice-gateway/sluice/gen/shop/type/v1"
)

// scripted is a service that answers what a test says, to the byte. It stands for
// all three of the shop, and knows nothing of them.
type scripted struct {
	addr string
	sent atomic.Int64 // bytes of answers that gRPC has taken
}

// script is what a method does: it may send, and returns how the call ends.
type script func(send func(message []byte) error) error

// answering sends one message.
func answering(message []byte) script {
	return func(send func([]byte) error) error { return send(message) }
}

// startScripted serves the scripts, by the last part of their methods' names.
func startScripted(t *testing.T, scripts map[string]script) *scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &scripted{addr: l.Addr().String()}
	srv := grpc.NewServer(grpc.ForceServerCodecV2(verbatim{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(s)
		do := scripts[method[strings.LastIndexByte(method, '/')+1:]]
		if do == nil {
			return fmt.Errorf("nobody expects a call of %s", method)
		}
		var request []byte
		if err := s.RecvMsg(&request); err != nil {
			return err
		}
		return do(func(message []byte) error {
			err := s.SendMsg(message)
			if err == nil {
				b.sent.Add(int64(len(message)))
			}
			return err
		})
	}))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return b
}

// gateway starts one whose services this is.
func (b *scripted) gateway(t *testing.T) *gateway {
	t.Helper()
	all := &service{addr: b.addr}
	return startGateway(t, setup{config: remote(makeKeys(t), map[string]*service{userService: all, orderService: all, profileService: all})})
}

// verbatim is a codec that leaves messages as they are.
type verbatim struct{}

func (verbatim) Name() string { return "proto" }

func (verbatim) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (verbatim) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func wireOf(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// anOrder is as large as its note.
func anOrder(note string) *orderv1.Order {
	return &orderv1.Order{
		OrderId: "ada-0001", UserId: "ada", State: orderv1.OrderState_ORDER_STATE_PAID, Note: note,
		Total: &typev1.Money{CurrencyCode: "EUR", Units: 1 << 53, Nanos: 1},
	}
}

// ordersOf is a list of about so many bytes, in which no order is like another.
func ordersOf(size int) *orderv1.ListOrdersResponse {
	list := &orderv1.ListOrdersResponse{NextPageToken: "more"}
	text := strings.Repeat("Zahnräder \"12\" \\ ½ ⚙ and plain text. ", 20)
	for n := 0; n < size; n += len(text) + 50 {
		list.Orders = append(list.Orders, anOrder(fmt.Sprint(n, text)))
	}
	return list
}
