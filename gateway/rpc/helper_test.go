package rpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/rpc"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(peerRole); role != "" { // Of a benchmark.
		if err := peer(role); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	spoil()
	goleak.VerifyTestMain(m)
}

const (
	service = "/sluice.test.v1.TestService/"
	echo    = service + "Echo"
	chat    = service + "Chat"
)

// edge is a server in a test, before a backend that answers what it is sent.
type edge struct {
	*rpc.Server
	t       *testing.T
	addr    string
	backend *backend

	mu      sync.Mutex
	refused map[string]int
	denied  []string
	log     bytes.Buffer
}

// Write takes a line of the access log.
func (e *edge) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.log.Len() > 1<<20 { // A flood: what is held is measured.
		return len(p), nil
	}
	return e.log.Write(p)
}

// requests are the entries of the access log.
func (e *edge) requests() (out []map[string]any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for line := range strings.Lines(e.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			e.t.Error(err)
		}
		if m["msg"] == "request" {
			out = append(out, m)
		}
	}
	return out
}

func (e *edge) refusals(limit string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.refused[limit]
}

func (e *edge) denials() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.denied, " ")
}

// start serves; edit may change the options.
func start(t *testing.T, edit func(*rpc.Options)) *edge {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, l, edit)
}

func startOn(t *testing.T, l net.Listener, edit func(*rpc.Options)) *edge {
	t.Helper()
	services := []protoreflect.ServiceDescriptor{testv1.File_sluice_test_v1_test_proto.Services().Get(0)}
	table, err := schema.New(services, schema.Options{Defaults: policy.Defaults{Deadline: time.Second, StreamIdle: time.Minute, StreamMaxAge: time.Minute, MaxRequestBytes: 1 << 20}, Linked: protoregistry.GlobalTypes})
	if err != nil {
		t.Fatal(err)
	}
	e := &edge{t: t, backend: &backend{}, refused: map[string]int{}}
	log := slog.New(slog.NewJSONHandler(e, nil))
	o := rpc.Options{
		Catalogue: table, Conn: e.backend,
		Telemetry: telemetry.New(telemetry.Options{Metrics: telemetry.NewMetrics(), Tracer: noop.NewTracerProvider().Tracer(""), Access: log}),
		Logger:    log,
		Refused: func(limit string) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.refused[limit]++
		},
		Denied: func(check string, m *policy.Method) {
			e.mu.Lock()
			defer e.mu.Unlock()
			if m != nil {
				check += ":" + m.FullName
			}
			e.denied = append(e.denied, check)
		},
	}
	if edit != nil {
		edit(&o)
	}
	e.Server = rpc.New(o)
	e.addr = l.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.GRPC().Serve(l)
	}()
	t.Cleanup(func() {
		e.GRPC().Stop()
		<-done
	})
	return e
}

// dial connects grpc-go.
func (e *edge) dial(creds credentials.TransportCredentials, opts ...grpc.DialOption) *grpc.ClientConn {
	e.t.Helper()
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	cc, err := grpc.NewClient("passthrough:///"+e.addr, append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.Codec{}))}, opts...)...)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// invoke calls a method with as many bytes, and returns all metadata of the
// answer.
func invoke(ctx context.Context, cc *grpc.ClientConn, method string, n int, opts ...grpc.CallOption) (metadata.MD, error) {
	var header, trailer metadata.MD
	err := cc.Invoke(ctx, method, &wire.Frame{Data: make([]byte, n)}, &wire.Frame{}, append(opts, grpc.Header(&header), grpc.Trailer(&trailer))...)
	return metadata.Join(header, trailer), err
}

// stream opens a stream, sends an empty message and reads to the end.
func stream(ctx context.Context, cc *grpc.ClientConn, method string) (metadata.MD, error) {
	st, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return nil, err
	}
	_ = st.SendMsg(&wire.Frame{})
	_ = st.CloseSend()
	for err == nil {
		err = st.RecvMsg(&wire.Frame{})
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	header, _ := st.Header()
	return metadata.Join(header, st.Trailer()), err
}

// step is a chain of one check.
func step(name string, f func(*policy.Call) error) policy.Chain {
	return policy.Chain{{Name: name, Check: func(ctx context.Context, c *policy.Call) (context.Context, error) { return ctx, f(c) }}}
}

// limited is what a limit answers.
func limited(wait time.Duration) error {
	st, err := status.New(codes.ResourceExhausted, "too many requests").WithDetails(
		&errdetails.ErrorInfo{Reason: "RATE_LIMITED", Domain: policy.ErrorDomain},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	if err != nil {
		return err
	}
	return st.Err()
}

func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == policy.ErrorDomain {
			return info.GetReason()
		}
	}
	return ""
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// heap is what the process uses after a collection.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // Far from the end of int64.
}

// backend answers what it is sent.
type backend struct {
	mu    sync.Mutex
	n     int
	calls []*policy.Call // the first
}

func (b *backend) note(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n++
	if len(b.calls) < 10 {
		b.calls = append(b.calls, policy.Admitted(ctx))
	}
}

func (b *backend) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

func (b *backend) Call(ctx context.Context, _ *policy.Call, request *wire.Frame, a *upstream.Answer) error {
	b.note(ctx)
	a.Message.Data = bytes.Clone(request.Data) // The forwarder gives both back.
	a.Header = metadata.Pairs("idempotency-replayed", "true")
	return nil
}

func (b *backend) Stream(ctx context.Context, _ *policy.Call) (upstream.Stream, error) {
	b.note(ctx)
	return &echoStream{ctx: ctx, messages: make(chan []byte, 16)}, nil
}

type echoStream struct {
	ctx      context.Context
	messages chan []byte
}

func (s *echoStream) Header() (metadata.MD, error) { return metadata.MD{}, nil }
func (s *echoStream) Trailer() metadata.MD         { return nil }
func (s *echoStream) CloseSend() error             { close(s.messages); return nil }
func (s *echoStream) Context() context.Context     { return s.ctx }
func (s *echoStream) Send(m *wire.Frame) error {
	select {
	case s.messages <- bytes.Clone(m.Data): // The forwarder gives them back.
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *echoStream) Receive(m *wire.Frame) error {
	select {
	case b, ok := <-s.messages:
		if !ok {
			return io.EOF
		}
		m.Data = b
		return nil
	case <-s.ctx.Done():
		if err := context.Cause(s.ctx); status.Code(err) != codes.Unknown {
			return err // As gateway/upstream does.
		}
		return status.FromContextError(s.ctx.Err()).Err()
	}
}
