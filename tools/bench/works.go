package main

import (
	"context"
	"errors"
	"net/http"

	"google.golang.org/protobuf/proto"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	typev1 "github.com/sluice-gateway/sluice/gen/shop/type/v1"
	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"

	"github.com/sluice-gateway/sluice/tools/bench/load"
)

// work is one kind of request that is measured.
type work struct {
	name  string // short, for -works
	title string
	// must and aim are the targets: CPU per request, subject to baseline. 0: none.
	must, aim float64

	// Over HTTP. body is JSON; the floor gets bodyWire instead, for it knows none.
	method, target string
	body           string
	bodyWire       proto.Message
	created        bool // Sluice answers 201

	// Over gRPC, when rpc is not empty.
	rpc     string
	request proto.Message

	answer proto.Message                   // an empty one of the answer's type
	whole  func(answer proto.Message) bool // whatever must be true of the answer
}

const (
	create     = `{"note":"Leave it with the neighbour.","lines":[` + createLine + `,` + createLine + `,` + createLine + `]}`
	createLine = `{"sku":"sku-0","title":"A fine thing to have","quantity":2,"price":{"currencyCode":"EUR","units":"12","nanos":500000000}}`
)

var works = []work{
	{
		name: "user", title: "GET one user", must: 0.85, aim: 0.70, method: http.MethodGet, target: "/v1/users/ada",
		answer: &userv1.User{}, whole: func(m proto.Message) bool { return m.(*userv1.User).GetUserId() == "ada" },
	},
	{
		name: "list20", title: "list of 20 orders", must: 0.25, aim: 0.20, method: http.MethodGet, target: "/v1/users/ada/orders?page_size=20",
		answer: &orderv1.ListOrdersResponse{}, whole: orders(20),
	},
	{
		name: "list100", title: "list of 100 orders", must: 0.15, aim: 0.10, method: http.MethodGet, target: "/v1/users/ada/orders?page_size=100",
		answer: &orderv1.ListOrdersResponse{}, whole: orders(100),
	},
	{
		name: "overview", title: "overview composite (3 branches, 10 orders)", must: 0.40, aim: 0.30, method: http.MethodGet, target: "/v1/users/ada/overview",
		answer: &bffv1.UserOverview{}, whole: func(m proto.Message) bool {
			o := m.(*bffv1.UserOverview)
			return o.GetUser() != nil && o.GetProfile() != nil && len(o.GetRecentOrders()) == 10 && len(o.GetPartial()) == 0
		},
	},
	{
		name: "create", title: "POST an order", method: http.MethodPost, target: "/v1/users/ada/orders", body: create, created: true,
		bodyWire: &orderv1.CreateOrderRequest{UserId: "ada", Order: &orderv1.Order{Note: "Leave it with the neighbour.", Lines: []*orderv1.OrderLine{createdLine(), createdLine(), createdLine()}}},
		answer:   &orderv1.Order{}, whole: func(m proto.Message) bool { return m.(*orderv1.Order).GetOrderId() != "" },
	},
	{
		name: "grpc20", title: "gRPC, list of 20 orders", must: 0.7, aim: 0.5,
		rpc: orderv1.OrderService_ListOrders_FullMethodName, request: &orderv1.ListOrdersRequest{UserId: "ada", PageSize: 20},
		answer: &orderv1.ListOrdersResponse{}, whole: orders(20),
	},
}

func createdLine() *orderv1.OrderLine {
	return &orderv1.OrderLine{Sku: "sku-0", Title: "A fine thing to have", Quantity: 2, Price: &typev1.Money{CurrencyCode: "EUR", Units: 12, Nanos: 500_000_000}}
}

func orders(n int) func(proto.Message) bool {
	return func(m proto.Message) bool { return len(m.(*orderv1.ListOrdersResponse).GetOrders()) == n }
}

// workNamed is the work of that name.
func workNamed(name string) *work {
	for i := range works {
		if works[i].name == name {
			return &works[i]
		}
	}
	return nil
}

// String is the request, for people.
func (w *work) String() string {
	if w.rpc != "" {
		return w.rpc
	}
	return w.method + " " + w.target
}

// plan is what is sent to one process for a work, and what it must answer.
type plan struct {
	http        load.Request
	contentType string
	body        []byte
	status      int
}

// planFor says how a process is asked: the floor speaks protobuf, and only
// Sluice answers a creation with 201.
func (w *work) planFor(p *process) (plan, error) {
	out := plan{status: http.StatusOK, contentType: "application/json"}
	if w.created && p.program == "sluice" {
		out.status = http.StatusCreated
	}
	if w.body != "" {
		out.body = []byte(w.body)
	}
	if p.program == "floor" && w.bodyWire != nil {
		var err error
		if out.body, err = proto.Marshal(w.bodyWire); err != nil {
			return out, err
		}
		out.contentType = "application/x-protobuf"
	}
	out.http = load.NewRequest(w.method, p.addr, w.target, p.token, out.contentType, out.body, out.status)
	return out, nil
}

// callers are so many connections to a process that send this work.
func (w *work) callers(ctx context.Context, p *process, conns int) ([]load.Caller, error) {
	if w.rpc != "" {
		request, err := proto.Marshal(w.request)
		if err != nil {
			return nil, err
		}
		return collect(conns, func() (load.Caller, error) { return load.NewGRPC(p.addr, w.rpc, request) })
	}
	plan, err := w.planFor(p)
	if err != nil {
		return nil, err
	}
	return httpCallers(ctx, p, conns, []load.Request{plan.http})
}

func httpCallers(ctx context.Context, p *process, conns int, requests []load.Request) ([]load.Caller, error) {
	return collect(conns, func() (load.Caller, error) { return load.DialHTTP(ctx, p.addr, requests) })
}

// collect makes n callers, or none.
func collect(n int, one func() (load.Caller, error)) ([]load.Caller, error) {
	var all []load.Caller
	for range n {
		c, err := one()
		if err != nil {
			return nil, errors.Join(err, closeAll(all))
		}
		all = append(all, c)
	}
	return all, nil
}

func closeAll(callers []load.Caller) error {
	var errs []error
	for _, c := range callers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
