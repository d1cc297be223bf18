package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	userv1 "github.com/sluice-gateway/sluice/gen/shop/user/v1"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/rest"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// entered answers at once what the entry chain lets through.
type entered struct {
	upstream.Sender
	chain policy.Chain
}

func (e entered) Call(ctx context.Context, call *policy.Call, request *wire.Frame, a *upstream.Answer) error {
	call.Message.Wire = request.Data
	if _, err := e.chain.Run(ctx, call); err != nil {
		return err
	}
	return wire.Cloner{}.Copy(&a.Message, &userv1.User{UserId: "ada"})
}

// served is GET /v1/users/ada through the whole REST edge, for a walk's chains
// and its rule.
func (w *walk) served(t testing.TB) func() {
	t.Helper()
	sd := w.method.Descriptor.Parent().(protoreflect.ServiceDescriptor)
	table, err := schema.New([]protoreflect.ServiceDescriptor{sd}, schema.Options{Defaults: policy.Defaults{Deadline: time.Second, MaxRequestBytes: 1 << 20}, Linked: protoregistry.GlobalTypes})
	if err != nil {
		t.Fatal(err)
	}
	rule := &table.Method(w.method.FullName).Rule
	own := w.method.Rule
	rule.Public, rule.Authenticated, rule.Scopes, rule.Owner = own.Public, own.Authenticated, own.Scopes, own.Owner
	rule.Conditions, rule.LimitClass, rule.LimitCost = own.Conditions, own.LimitClass, own.LimitCost
	observer := telemetry.New(telemetry.Options{Metrics: telemetry.NewMetrics(), Tracer: noop.NewTracerProvider().Tracer("")})
	routes, err := rest.New(rest.Options{
		Catalogue: table, Conn: entered{chain: w.send}, Telemetry: observer, Logger: slog.New(slog.DiscardHandler),
		Services: []rest.Service{{Name: string(sd.FullName()), Register: rest.Handlers(userv1.RegisterUserServiceHandlerClient, userv1.NewUserServiceClient)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := httpedge.New(httpedge.Options{Protocols: []httpedge.Protocol{routes}, Arrival: w.arrival, Edge: w.admission, Client: w.client, Telemetry: observer, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/v1/users/ada", nil)
	r.RemoteAddr, r.Header = w.peer.String(), w.headers
	return func() {
		answer := &answer{header: http.Header{}}
		if s.ServeHTTP(answer, r); answer.status != http.StatusOK {
			t.Fatal(answer.status, answer.header)
		}
	}
}

// answer is a ResponseWriter that costs next to nothing.
type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) Write(b []byte) (int, error) { return len(b), nil }
func (a *answer) WriteHeader(code int)        { a.status = code }

// BenchmarkServed is the same demands seen from outside: a request through the
// REST edge, without sockets, access log and service.
func BenchmarkServed(b *testing.B) {
	w := newWalks(b)
	for _, d := range demands {
		serve := w.walk(b, d.demand).served(b)
		b.Run(d.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
	}
}
