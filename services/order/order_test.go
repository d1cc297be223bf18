package order_test

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	typev1 "github.com/sluice-gateway/sluice/gen/shop/type/v1"
	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/dbtest"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
	"github.com/sluice-gateway/sluice/services/order"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestService(t *testing.T) {
	kittest.Suite(t, func(t *testing.T, e dbtest.Engine, transport string) {
		for _, tt := range []struct {
			name string
			test func(*testing.T, *kittest.Conn)
		}{
			{"create", create},
			{"totals", totals},
			{"create again with one request_id", createAgain},
			{"a stranger's order is not found", strangers},
			{"advance and cancel", moves},
			{"concurrent moves", concurrentMoves},
			{"list", list},
			{"watch", watchToTheEnd},
			{"watch a final order", watchFinal},
			{"watch and leave", watchAndLeave},
			{"watchers lag and race", watchRaces},
		} {
			t.Run(tt.name, func(t *testing.T) { tt.test(t, connect(t, open(t, e.DSN(t)), transport)) })
		}
		t.Run("seed", func(t *testing.T) { seed(t, open(t, e.DSN(t)), transport) })
		t.Run("watch another process's changes", func(t *testing.T) { watchOther(t, e.DSN(t), transport) })
		t.Run("draining ends watches", func(t *testing.T) { watchDrained(t, open(t, e.DSN(t)), transport) })
		t.Run("equal requests at two processes", func(t *testing.T) { twoProcesses(t, e.DSN(t), transport) })
	})
}

func open(t *testing.T, dsn string) *kit.Service {
	t.Helper()
	s, err := order.Open(t.Context(), dsn, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func connect(t *testing.T, s *kit.Service, transport string) *kittest.Conn {
	t.Helper()
	return kittest.ServeService(t, transport, s, nil)
}

func as(c *kittest.Conn, subject string) orderv1.OrderServiceClient {
	return orderv1.NewOrderServiceClient(c.As(subject, "orders.read", "orders.write"))
}

func admin(c *kittest.Conn) orderv1.OrderServiceClient {
	return orderv1.NewOrderServiceClient(c.As("root", "admin"))
}

func line(quantity int32, currency string, units int64, nanos int32) *orderv1.OrderLine {
	return &orderv1.OrderLine{Sku: "sku-1", Title: "Thing", Quantity: quantity, Price: &typev1.Money{CurrencyCode: currency, Units: units, Nanos: nanos}}
}

func place(t *testing.T, c *kittest.Conn, userID string) *orderv1.Order {
	t.Helper()
	o, err := as(c, userID).CreateOrder(t.Context(), &orderv1.CreateOrderRequest{
		UserId: userID, Order: &orderv1.Order{Lines: []*orderv1.OrderLine{line(2, "EUR", 1, 500_000_000)}, Note: "ring twice"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func advance(t *testing.T, c *kittest.Conn, id string, to orderv1.OrderState) *orderv1.Order {
	t.Helper()
	o, err := admin(c).AdvanceOrder(t.Context(), &orderv1.AdvanceOrderRequest{OrderId: id, State: to})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func wantEqual(t *testing.T, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
}

func create(t *testing.T, c *kittest.Conn) {
	sent := &orderv1.Order{
		OrderId: "mine", UserId: "grace", State: orderv1.OrderState_ORDER_STATE_DELIVERED, Etag: "x", Note: "ring twice",
		Total: &typev1.Money{CurrencyCode: "EUR"}, Lines: []*orderv1.OrderLine{line(3, "EUR", 2, 990_000_000), line(1, "EUR", 0, 30_000_000)},
	}
	o, err := as(c, "ada").CreateOrder(t.Context(), &orderv1.CreateOrderRequest{UserId: "ada", Order: sent})
	if err != nil {
		t.Fatal(err)
	}
	// Only lines and note are the client's to say.
	if o.GetOrderId() == "mine" || o.GetUserId() != "ada" || o.GetState() != orderv1.OrderState_ORDER_STATE_PLACED || o.GetEtag() == "x" ||
		o.GetNote() != "ring twice" || len(o.GetLines()) != 2 || !o.GetCreateTime().IsValid() {
		t.Errorf("created %v", o)
	}
	wantEqual(t, o.GetTotal(), &typev1.Money{CurrencyCode: "EUR", Units: 9})
	wantEqual(t, o.GetLines()[0], sent.GetLines()[0])
	stored, err := as(c, "ada").GetOrder(t.Context(), &orderv1.GetOrderRequest{OrderId: o.GetOrderId()})
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, stored, o)
	_, err = as(c, "ada").CreateOrder(t.Context(), &orderv1.CreateOrderRequest{UserId: "grace", Order: sent})
	kittest.WantCode(t, err, codes.PermissionDenied)
	_, err = as(c, "ada").ListOrders(t.Context(), &orderv1.ListOrdersRequest{UserId: "grace"})
	kittest.WantCode(t, err, codes.PermissionDenied)
}

func totals(t *testing.T, c *kittest.Conn) {
	negative := line(1, "EUR", -1, 0)
	for _, tt := range []struct {
		name, field string
		lines       []*orderv1.OrderLine
	}{
		{"another currency", "order.lines[1].price", []*orderv1.OrderLine{line(1, "EUR", 1, 0), line(1, "USD", 1, 0)}},
		{"a line too large", "order.lines[0].price", []*orderv1.OrderLine{line(2, "EUR", math.MaxInt64, 0)}},
		{"a sum too large", "order.lines[2].price", []*orderv1.OrderLine{line(1, "EUR", 1, 0), line(1, "EUR", math.MaxInt64-1, 0), line(1, "EUR", 1, 0)}},
		{"a negative price", "order.lines[0].price", []*orderv1.OrderLine{negative}},
		{"no lines", "order.lines", nil},
		{"no price", "order.lines[0].price", []*orderv1.OrderLine{{Sku: "a", Quantity: 1}}},
		{"nothing of it", "order.lines[0].quantity", []*orderv1.OrderLine{line(0, "EUR", 1, 0)}},
		{"NUL in a title", "order.lines[0].title", []*orderv1.OrderLine{{Sku: "a", Title: "\x00", Quantity: 1, Price: &typev1.Money{CurrencyCode: "EUR"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := as(c, "ada").CreateOrder(t.Context(), &orderv1.CreateOrderRequest{UserId: "ada", Order: &orderv1.Order{Lines: tt.lines}})
			kittest.WantField(t, err, tt.field)
		})
	}
}

func createAgain(t *testing.T, c *kittest.Conn) {
	req := func(note string) *orderv1.CreateOrderRequest {
		return &orderv1.CreateOrderRequest{UserId: "ada", RequestId: "key-1", Order: &orderv1.Order{Note: note, Lines: []*orderv1.OrderLine{line(1, "EUR", 1, 0)}}}
	}
	var header metadata.MD
	first, err := as(c, "ada").CreateOrder(t.Context(), req("a"), grpc.Header(&header))
	if err != nil || len(header.Get("idempotency-replayed")) != 0 {
		t.Fatal(err, header)
	}
	advance(t, c, first.GetOrderId(), orderv1.OrderState_ORDER_STATE_PAID)
	again, err := as(c, "ada").CreateOrder(t.Context(), req("a"), grpc.Header(&header))
	if err != nil || !slices.Equal(header.Get("idempotency-replayed"), []string{"true"}) {
		t.Fatalf("replay: %v, header %v", err, header)
	}
	wantEqual(t, again, first) // As it was answered, not as it is by now.
	_, err = as(c, "ada").CreateOrder(t.Context(), req("b"))
	kittest.WantReason(t, err, codes.Aborted, "IDEMPOTENCY_KEY_REUSED")
	other := req("b")
	other.UserId = "grace"
	if o, err := as(c, "grace").CreateOrder(t.Context(), other); err != nil || o.GetOrderId() == first.GetOrderId() {
		t.Errorf("another user's equal key: %v, %v", o, err)
	}
	// A refused request leaves its key free.
	refused := req("a")
	refused.RequestId, refused.Order.Lines = "key-2", []*orderv1.OrderLine{line(1, "EUR", 1, 0), line(1, "USD", 1, 0)}
	_, err = as(c, "ada").CreateOrder(t.Context(), refused)
	kittest.WantCode(t, err, codes.InvalidArgument)
	refused.Order.Lines = refused.GetOrder().GetLines()[:1]
	if _, err := as(c, "ada").CreateOrder(t.Context(), refused); err != nil {
		t.Error(err)
	}
}

func strangers(t *testing.T, c *kittest.Conn) {
	o := place(t, c, "ada")
	for name, call := range map[string]func(orderv1.OrderServiceClient, string) error{
		"get": func(s orderv1.OrderServiceClient, id string) error {
			_, err := s.GetOrder(t.Context(), &orderv1.GetOrderRequest{OrderId: id})
			return err
		},
		"cancel": func(s orderv1.OrderServiceClient, id string) error {
			_, err := s.CancelOrder(t.Context(), &orderv1.CancelOrderRequest{OrderId: id})
			return err
		},
		"watch": func(s orderv1.OrderServiceClient, id string) error {
			stream, err := s.WatchOrder(t.Context(), &orderv1.WatchOrderRequest{OrderId: id})
			if err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		},
	} {
		for _, subject := range []string{"eve", ""} {
			st := kittest.WantCode(t, call(as(c, subject), o.GetOrderId()), codes.NotFound)
			if want := fmt.Sprintf("order %q not found", o.GetOrderId()); st.Message() != want {
				t.Errorf("%s: message %q, want %q", name, st.Message(), want)
			}
		}
		if st := kittest.WantCode(t, call(as(c, "ada"), "missing"), codes.NotFound); st.Message() != `order "missing" not found` {
			t.Errorf("%s: message %q", name, st.Message())
		}
	}
	for _, subject := range []string{"eve", "ada"} {
		_, err := as(c, subject).AdvanceOrder(t.Context(), &orderv1.AdvanceOrderRequest{OrderId: o.GetOrderId(), State: orderv1.OrderState_ORDER_STATE_PAID})
		kittest.WantCode(t, err, codes.PermissionDenied)
	}
	if got, err := admin(c).GetOrder(t.Context(), &orderv1.GetOrderRequest{OrderId: o.GetOrderId()}); err != nil || !proto.Equal(got, o) {
		t.Errorf("after all that: %v, %v", got, err)
	}
}

func moves(t *testing.T, c *kittest.Conn) {
	o := place(t, c, "ada")
	id := o.GetOrderId()
	_, err := admin(c).AdvanceOrder(t.Context(), &orderv1.AdvanceOrderRequest{OrderId: id, State: orderv1.OrderState_ORDER_STATE_SHIPPED})
	kittest.WantCode(t, err, codes.FailedPrecondition)
	paid := advance(t, c, id, orderv1.OrderState_ORDER_STATE_PAID)
	if paid.GetEtag() == o.GetEtag() || paid.GetUpdateTime().AsTime().Before(o.GetUpdateTime().AsTime()) {
		t.Errorf("paid = %v", paid)
	}
	_, err = as(c, "ada").CancelOrder(t.Context(), &orderv1.CancelOrderRequest{OrderId: id, Etag: o.GetEtag()})
	kittest.WantReason(t, err, codes.Aborted, "STALE_ETAG")
	cancelled, err := as(c, "ada").CancelOrder(t.Context(), &orderv1.CancelOrderRequest{OrderId: id, Etag: paid.GetEtag()})
	if err != nil || cancelled.GetState() != orderv1.OrderState_ORDER_STATE_CANCELLED {
		t.Fatal(cancelled, err)
	}
	for _, etag := range []string{"", paid.GetEtag()} { // As a retry would send it.
		again, err := as(c, "ada").CancelOrder(t.Context(), &orderv1.CancelOrderRequest{OrderId: id, Etag: etag})
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, again, cancelled)
	}
	_, err = admin(c).AdvanceOrder(t.Context(), &orderv1.AdvanceOrderRequest{OrderId: id, State: orderv1.OrderState_ORDER_STATE_SHIPPED})
	kittest.WantCode(t, err, codes.FailedPrecondition)
	_, err = admin(c).AdvanceOrder(t.Context(), &orderv1.AdvanceOrderRequest{OrderId: "missing", State: orderv1.OrderState_ORDER_STATE_SHIPPED})
	kittest.WantCode(t, err, codes.NotFound)
	_, err = admin(c).AdvanceOrder(t.Context(), &orderv1.AdvanceOrderRequest{OrderId: id})
	kittest.WantField(t, err, "state")

	shipped := place(t, c, "ada").GetOrderId()
	advance(t, c, shipped, orderv1.OrderState_ORDER_STATE_PAID)
	advance(t, c, shipped, orderv1.OrderState_ORDER_STATE_SHIPPED)
	_, err = as(c, "ada").CancelOrder(t.Context(), &orderv1.CancelOrderRequest{OrderId: shipped})
	kittest.WantCode(t, err, codes.FailedPrecondition)
}

// concurrentMoves: of those who pay and those who cancel, each move happens once
// and none gets lost.
func concurrentMoves(t *testing.T, c *kittest.Conn) {
	for range 5 {
		id := place(t, c, "ada").GetOrderId()
		var (
			wg sync.WaitGroup
			mu sync.Mutex
			n  = map[codes.Code]int{}
		)
		for range 8 {
			wg.Go(func() {
				_, err := admin(c).AdvanceOrder(t.Context(), &orderv1.AdvanceOrderRequest{OrderId: id, State: orderv1.OrderState_ORDER_STATE_PAID})
				mu.Lock()
				defer mu.Unlock()
				n[status.Code(err)]++
			})
		}
		wg.Wait()
		if n[codes.OK] != 1 || n[codes.FailedPrecondition] != 7 {
			t.Fatalf("eight paid: %v", n)
		}
	}
}

func list(t *testing.T, c *kittest.Conn) {
	var all []string // The newest first.
	for range 23 {
		all = slices.Insert(all, 0, place(t, c, "ada").GetOrderId())
	}
	place(t, c, "grace")
	read := func(size int32, between func(int)) (ids []string) {
		req := &orderv1.ListOrdersRequest{UserId: "ada", PageSize: size}
		for page := 0; ; page++ {
			resp, err := as(c, "ada").ListOrders(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range resp.GetOrders() {
				ids = append(ids, o.GetOrderId())
			}
			if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
				return ids
			}
			between(page)
		}
	}
	for _, size := range []int32{0, 1, 10, 23, 100} {
		if ids := read(size, func(int) {}); !slices.Equal(ids, all) {
			t.Errorf("by %d: %v, want %v", size, ids, all)
		}
	}
	// What is placed meanwhile is newer than what is still to come.
	if ids := read(5, func(page int) {
		if page < 3 {
			place(t, c, "ada")
		}
	}); !slices.Equal(ids, all) {
		t.Errorf("while orders are placed: %v, want %v", ids, all)
	}
	first, err := as(c, "ada").ListOrders(t.Context(), &orderv1.ListOrdersRequest{UserId: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range []*orderv1.ListOrdersRequest{
		{UserId: "grace", PageToken: first.GetNextPageToken()},
		{UserId: "ada", PageToken: "garbage"},
	} {
		_, err := admin(c).ListOrders(t.Context(), req)
		kittest.WantField(t, err, "page_token")
	}
	if resp, err := as(c, "nobody").ListOrders(t.Context(), &orderv1.ListOrdersRequest{UserId: "nobody"}); err != nil || len(resp.GetOrders()) != 0 {
		t.Errorf("orders of nobody: %v, %v", resp, err)
	}
}

func seed(t *testing.T, s *kit.Service, transport string) {
	c := connect(t, s, transport)
	for range 2 {
		if err := s.Seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		states := map[orderv1.OrderState]bool{}
		for user, n := range map[string]int{"ada": 12, "grace": 3, "alan": 2} {
			resp, err := as(c, user).ListOrders(t.Context(), &orderv1.ListOrdersRequest{UserId: user})
			if err != nil || len(resp.GetOrders()) != n {
				t.Fatalf("%s has %d orders, %v, want %d", user, len(resp.GetOrders()), err, n)
			}
			if newest := resp.GetOrders()[0].GetOrderId(); newest != fmt.Sprintf("%s-%04d", user, n) {
				t.Errorf("the newest order of %s is %s", user, newest)
			}
			for _, o := range resp.GetOrders() {
				states[o.GetState()] = true
			}
		}
		if len(states) != 5 {
			t.Errorf("states = %v, want all five", states)
		}
	}
}

// twoProcesses: of equal requests at two processes one creates.
func twoProcesses(t *testing.T, dsn, transport string) {
	conns := []*kittest.Conn{connect(t, open(t, dsn), transport), connect(t, open(t, dsn), transport)}
	const requests = 12
	var (
		wg   sync.WaitGroup
		made [requests]*orderv1.Order
	)
	for i := range requests {
		wg.Go(func() {
			var err error
			made[i], err = as(conns[i%2], "ada").CreateOrder(t.Context(), &orderv1.CreateOrderRequest{
				UserId: "ada", RequestId: "same", Order: &orderv1.Order{Lines: []*orderv1.OrderLine{line(1, "EUR", 1, 0)}},
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, o := range made {
		wantEqual(t, o, made[0])
	}
	resp, err := as(conns[0], "ada").ListOrders(t.Context(), &orderv1.ListOrdersRequest{UserId: "ada"})
	if err != nil || len(resp.GetOrders()) != 1 {
		t.Errorf("%d orders, %v, want one", len(resp.GetOrders()), err)
	}
}
