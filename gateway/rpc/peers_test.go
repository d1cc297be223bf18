package rpc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"

	orderv1 "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	typev1 "github.com/sluice-gateway/sluice/gen/shop/type/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/rpc"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// The peers of BenchmarkEdge are processes of their own, so that each says what
// CPU it used. They are this test binary, started again with these names.
const (
	peerRole    = "SLUICE_RPC_PEER" // backend, forward or decode
	peerBackend = "SLUICE_RPC_BACKEND"
	peerProfile = "SLUICE_RPC_PROFILE" // where profiles of peers go, if anywhere: <here>/<role>.cpu and .allocs (finer with GODEBUG=memprofilerate=4096)
)

const listOrders = orderv1.OrderService_ListOrders_FullMethodName

// peer serves until its standard input ends. A line there asks what it has used.
func peer(role string) error {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var s *grpc.Server
	switch role {
	case "backend":
		s = grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}))
		s.RegisterService(backendDesc(), struct{}{})
	case "forward":
		s, err = forwarder(os.Getenv(peerBackend))
	case "decode":
		s, err = decoder(os.Getenv(peerBackend))
	default:
		err = errors.New("no such peer: " + role)
	}
	if err != nil {
		return err
	}
	defer profile(role)()
	fmt.Println(l.Addr())
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			u := used()
			fmt.Println(u.cpu.Nanoseconds(), u.mallocs, u.bytes, u.heap)
		}
		s.Stop()
	}()
	return s.Serve(l)
}

// profile writes what pprof reads, when it is asked for.
func profile(role string) (end func()) {
	dir := os.Getenv(peerProfile)
	if dir == "" {
		return func() {}
	}
	cpu, err := os.Create(filepath.Join(dir, role+".cpu"))
	if err != nil {
		panic(err)
	}
	allocs, err := os.Create(filepath.Join(dir, role+".allocs"))
	if err != nil {
		panic(err)
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		panic(err)
	}
	return func() {
		pprof.StopCPUProfile()
		if err := errors.Join(pprof.Lookup("allocs").WriteTo(allocs, 0), cpu.Close(), allocs.Close()); err != nil {
			panic(err)
		}
	}
}

// usage is what a process has used since it began.
type usage struct {
	cpu            time.Duration
	mallocs, bytes uint64
	heap           uint64 // in use now
}

func used() usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return usage{time.Duration(r.Utime.Nano() + r.Stime.Nano()), m.Mallocs, m.TotalAlloc, m.HeapInuse + m.StackInuse}
}

// answers are encoded once, by page_size.
var answers = sync.OnceValue(func() map[int32][]byte {
	out := map[int32][]byte{}
	for _, n := range []int32{1, 20, 250} {
		list := &orderv1.ListOrdersResponse{NextPageToken: "next"}
		for i := range n {
			o := &orderv1.Order{
				OrderId: fmt.Sprint("order-", i), UserId: "ada", State: orderv1.OrderState_ORDER_STATE_PAID,
				Total:      &typev1.Money{CurrencyCode: "EUR", Units: 120, Nanos: 5e8},
				CreateTime: timestamppb.New(time.Unix(1.7e9, 0)), UpdateTime: timestamppb.New(time.Unix(1.7e9, 5)), Etag: "0123456789abcdef",
			}
			for j := range 3 {
				o.Lines = append(o.Lines, &orderv1.OrderLine{Sku: fmt.Sprint("sku-", j), Title: "A book on the sea, vol. " + strconv.Itoa(j), Quantity: 2, Price: &typev1.Money{CurrencyCode: "EUR", Units: 20, Nanos: 1}})
			}
			list.Orders = append(list.Orders, o)
		}
		b, err := proto.Marshal(list)
		if err != nil {
			panic(err)
		}
		out[n] = b
	}
	return out
})

// backendDesc answers ListOrders with bytes that are ready.
func backendDesc() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "shop.order.v1.OrderService", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "ListOrders", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := &orderv1.ListOrdersRequest{}
			if err := decode(in); err != nil {
				return nil, err
			}
			return &wire.Frame{Data: answers()[in.GetPageSize()]}, nil
		}}},
	}
}

// forwarder is the gRPC edge with nothing switched on, but all there that always
// is: metrics, the rule's bounds, an assertion (always the same).
func forwarder(backend string) (*grpc.Server, error) {
	services := []protoreflect.ServiceDescriptor{orderv1.File_shop_order_v1_order_proto.Services().Get(0)}
	table, err := schema.New(services, schema.Options{Defaults: policy.Defaults{Deadline: 5 * time.Second, StreamIdle: time.Minute, StreamMaxAge: time.Minute, MaxRequestBytes: 1 << 20}, Linked: protoregistry.GlobalTypes})
	if err != nil {
		return nil, err
	}
	target, err := upstream.Remote(upstream.RemoteOptions{Target: "passthrough:///" + backend})
	if err != nil {
		return nil, err
	}
	metrics := telemetry.NewMetrics()
	conn, err := upstream.New(upstream.Options{
		Catalogue: table, Targets: map[string]upstream.Target{"shop.order.v1.OrderService": target}, Signer: signer{}, Observer: metered{metrics},
	})
	if err != nil {
		return nil, err
	}
	return rpc.New(rpc.Options{
		Catalogue: table, Conn: conn,
		Telemetry: telemetry.New(telemetry.Options{Metrics: metrics, Tracer: noop.NewTracerProvider().Tracer("")}),
	}).GRPC(), nil
}

type signer struct{}

// Sign costs nothing here: assertions are kept by what they say.
func (signer) Sign(*policy.Principal, string) (string, error) {
	return "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEiLCJhdWQiOiJzaG9wLm9yZGVyLnYxLk9yZGVyU2VydmljZSIsImV4cCI6MTcwMDAwMDAwMH0.c2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJlc2lnbg", nil
}

type metered struct{ m *telemetry.Metrics }

func (metered) Denied(string, *policy.Method) {}
func (o metered) UpstreamDone(m *policy.Method, target string, code codes.Code, took time.Duration, span trace.Span) {
	o.m.UpstreamDone(m, target, code, took, span)
}

// decoder is what one would write with grpc-go alone: generated code on both
// sides, the message handed on.
func decoder(backend string) (*grpc.Server, error) {
	cc, err := grpc.NewClient("passthrough:///"+backend, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	s := grpc.NewServer()
	orderv1.RegisterOrderServiceServer(s, decoding{client: orderv1.NewOrderServiceClient(cc)})
	return s, nil
}

type decoding struct {
	orderv1.UnimplementedOrderServiceServer
	client orderv1.OrderServiceClient
}

func (d decoding) ListOrders(ctx context.Context, in *orderv1.ListOrdersRequest) (*orderv1.ListOrdersResponse, error) {
	return d.client.ListOrders(ctx, in)
}

// process is a peer that was started.
type process struct {
	name, addr string
	in         io.WriteCloser
	out        *bufio.Reader
	cc         []*grpc.ClientConn
}

// spawn starts a peer and connects to it.
func spawn(b *testing.B, name, role, backend string, conns int, env ...string) *process {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), peerRole+"="+role, peerBackend+"="+backend), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			b.Errorf("%s: %v", name, err)
		}
	})
	p := &process{name: name, in: in, out: bufio.NewReader(out)}
	line, err := p.out.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	p.addr = strings.TrimSpace(line)
	for range conns {
		cc, err := grpc.NewClient("passthrough:///"+p.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.Codec{})))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = cc.Close() })
		p.cc = append(p.cc, cc)
	}
	return p
}

func (p *process) used(b *testing.B) (u usage) {
	b.Helper()
	if _, err := fmt.Fprintln(p.in); err != nil {
		b.Fatal(err)
	}
	var cpu int64
	if _, err := fmt.Fscanln(p.out, &cpu, &u.mallocs, &u.bytes, &u.heap); err != nil {
		b.Fatal(err)
	}
	u.cpu = time.Duration(cpu)
	return u
}

// load makes n calls from so many callers, and sees that each answer is right.
func (p *process) load(b *testing.B, size int32, callers, n int) {
	b.Helper()
	in, err := proto.Marshal(&orderv1.ListOrdersRequest{UserId: "ada", PageSize: size})
	if err != nil {
		b.Fatal(err)
	}
	want := len(answers()[size])
	ctx := metadata.AppendToOutgoingContext(b.Context(), "x-request-id", "0123456789abcdef")
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			cc := p.cc[i%len(p.cc)]
			for range n / callers {
				out := &wire.Frame{}
				if err := cc.Invoke(ctx, listOrders, &wire.Frame{Data: in}, out); err != nil || len(out.Data) != want {
					b.Errorf("%s: %d bytes, %v", p.name, len(out.Data), err)
					return
				}
				out.Free()
			}
		})
	}
	wg.Wait()
}
