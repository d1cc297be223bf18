package kit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testService = "sluice.test.v1.TestService"

// fake fails as the request's id says.
type fake struct {
	testv1.UnimplementedTestServiceServer
}

func (fake) fail(how string) error {
	teapot, _ := status.New(grpccodes.Aborted, "taken").WithDetails(&errdetails.ErrorInfo{Reason: "TAKEN"})
	switch how {
	case "panic":
		panic("secret of the panic")
	case "bare":
		return errors.New("secret of the database")
	case "wrapped":
		return fmt.Errorf("secret of the store: %w", teapot.Err())
	case "deadline":
		return fmt.Errorf("secret query: %w", context.DeadlineExceeded)
	case "canceled":
		return fmt.Errorf("secret query: %w", context.Canceled)
	case "unavailable":
		return fmt.Errorf("%w: %w", status.Error(grpccodes.Unavailable, "no database"), errors.New("secret dial error"))
	}
	return nil
}

func (f fake) Echo(ctx context.Context, req *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	if err := f.fail(req.GetId()); err != nil {
		return &testv1.EchoResponse{Id: "must not arrive"}, err
	}
	c := kit.CallerFrom(ctx)
	return &testv1.EchoResponse{Id: req.GetId(), Subject: c.Subject, Scopes: c.Scopes}, nil
}

func (f fake) Up(stream grpc.ClientStreamingServer[testv1.EchoRequest, testv1.EchoResponse]) error {
	var n int32
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&testv1.EchoResponse{Index: n, Subject: kit.CallerFrom(stream.Context()).Subject})
		}
		if err != nil {
			return err
		}
		if err := f.fail(req.GetId()); err != nil {
			return err
		}
		n++
	}
}

func register(r grpc.ServiceRegistrar) {
	testv1.RegisterTestServiceServer(r, fake{})
	healthv1.RegisterHealthServer(r, health.NewServer())
}

// logBuffer takes log lines from several goroutines.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// over runs a test on every transport, with the log that the service writes.
func over(t *testing.T, test func(t *testing.T, c *kittest.Conn, log *logBuffer)) {
	for _, transport := range kittest.Transports() {
		t.Run(transport, func(t *testing.T) {
			log := &logBuffer{}
			test(t, kittest.Serve(t, transport, register, slog.New(slog.NewJSONHandler(log, nil))), log)
		})
	}
}

// calls are a unary call and a stream that both send one message.
var calls = map[string]func(ctx context.Context, conn grpc.ClientConnInterface, req *testv1.EchoRequest) (*testv1.EchoResponse, error){
	"unary": func(ctx context.Context, conn grpc.ClientConnInterface, req *testv1.EchoRequest) (*testv1.EchoResponse, error) {
		return testv1.NewTestServiceClient(conn).Echo(ctx, req)
	},
	"stream": func(ctx context.Context, conn grpc.ClientConnInterface, req *testv1.EchoRequest) (*testv1.EchoResponse, error) {
		stream, err := testv1.NewTestServiceClient(conn).Up(ctx)
		if err != nil {
			return nil, err
		}
		if err := stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return stream.CloseAndRecv()
	},
}

func TestErrorsSayWhatTheyMay(t *testing.T) {
	over(t, func(t *testing.T, c *kittest.Conn, log *logBuffer) {
		for name, call := range calls {
			for _, tt := range []struct {
				how, message, logged string
				code                 grpccodes.Code
			}{
				{"panic", "internal error", "secret of the panic", grpccodes.Internal},
				{"bare", "internal error", "secret of the database", grpccodes.Internal},
				{"wrapped", "taken", "", grpccodes.Aborted},
				{"deadline", context.DeadlineExceeded.Error(), "", grpccodes.DeadlineExceeded},
				{"canceled", context.Canceled.Error(), "", grpccodes.Canceled},
				{"unavailable", "no database", "secret dial error", grpccodes.Unavailable},
			} {
				t.Run(name+"/"+tt.how, func(t *testing.T) {
					id := "request-" + name + "-" + tt.how
					ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", id)
					resp, err := call(ctx, c.As("ada"), &testv1.EchoRequest{Id: tt.how})
					st := status.Convert(err)
					if st.Code() != tt.code || st.Message() != tt.message {
						t.Fatalf("answer = %v, %v, want %s %q", resp, err, tt.code, tt.message)
					}
					if tt.how == "wrapped" && len(st.Details()) != 1 {
						t.Errorf("details = %v, want the one that was wrapped", st.Details())
					}
					line := lineWith(log.String(), id)
					if tt.logged == "" && line != "" || tt.logged != "" && !strings.Contains(line, tt.logged) {
						t.Errorf("logged %q, want %q in it", line, tt.logged)
					}
				})
			}
		}
	})
}

func lineWith(log, part string) string {
	for line := range strings.Lines(log) {
		if strings.Contains(line, `"`+part+`"`) {
			return line
		}
	}
	return ""
}

func TestAssertionIsRequired(t *testing.T) {
	over(t, func(t *testing.T, c *kittest.Conn, _ *logBuffer) {
		good := c.Signer().Token(t, kit.Caller{Subject: "ada", Scopes: []string{"a", "b"}}, testService)
		for name, call := range calls {
			for _, tt := range []struct {
				name, message string
				tokens        []string
			}{
				{"none", "no assertion: call through the gateway", nil},
				{"two", "several assertions", []string{good, good}},
				{"garbage", "assertion is not a JWT", []string{"x"}},
				{"another service's", "assertion is for another service", []string{c.Signer().Token(t, kit.Caller{}, "other")}},
				{"a stranger's", "assertion is not signed by a known key", []string{kittest.NewSigner(t).Token(t, kit.Caller{Subject: "ada"}, testService)}},
			} {
				t.Run(name+"/"+tt.name, func(t *testing.T) {
					ctx := metadata.NewOutgoingContext(t.Context(), metadata.MD{kit.AssertionKey: tt.tokens})
					_, err := call(ctx, c, &testv1.EchoRequest{Id: "panic"})
					if st := status.Convert(err); st.Code() != grpccodes.Unauthenticated || st.Message() != tt.message {
						t.Fatalf("err = %v, want UNAUTHENTICATED %q", err, tt.message)
					}
				})
			}
			t.Run(name+"/good", func(t *testing.T) {
				ctx := metadata.NewOutgoingContext(t.Context(), metadata.MD{kit.AssertionKey: {good}})
				resp, err := call(ctx, c, &testv1.EchoRequest{})
				if err != nil || resp.GetSubject() != "ada" {
					t.Fatalf("answer = %v, %v", resp, err)
				}
			})
			t.Run(name+"/anonymous", func(t *testing.T) {
				resp, err := call(t.Context(), c.As(""), &testv1.EchoRequest{})
				if err != nil || resp.GetSubject() != "" {
					t.Fatalf("answer = %v, %v", resp, err)
				}
			})
		}
		if _, err := healthv1.NewHealthClient(c).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
			t.Errorf("health needs an assertion: %v", err)
		}
	})
}

func TestValidation(t *testing.T) {
	over(t, func(t *testing.T, c *kittest.Conn, _ *logBuffer) {
		for name, call := range calls {
			for _, tt := range []struct {
				name, field, reason string
				req                 *testv1.EchoRequest
			}{
				{"too long", "id", "string.max_len", &testv1.EchoRequest{Id: strings.Repeat("x", 101)}},
				{"NUL", "inner.inner.tags[1]", "string.nul", &testv1.EchoRequest{Inner: &testv1.Inner{Inner: &testv1.Inner{Tags: []string{"", "a\x00"}}}}},
				{"NUL in a map's value", `kinds.m_string["k"]`, "string.nul", &testv1.EchoRequest{Kinds: &testv1.Kinds{MString: map[string]string{"k": "\x00"}}}},
				{"NUL in a map's key", "kinds.m_string", "string.nul", &testv1.EchoRequest{Kinds: &testv1.Kinds{MString: map[string]string{"\x00": ""}}}},
			} {
				t.Run(name+"/"+tt.name, func(t *testing.T) {
					_, err := call(t.Context(), c.As("ada"), tt.req)
					wantViolation(t, err, tt.field, tt.reason)
				})
			}
		}
	})
}

// wantViolation fails unless err is INVALID_ARGUMENT of one field.
func wantViolation(t *testing.T, err error, field, reason string) {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != grpccodes.InvalidArgument || len(st.Details()) != 1 {
		t.Fatalf("err = %v %v, want INVALID_ARGUMENT with a detail", err, st.Details())
	}
	bad, ok := st.Details()[0].(*errdetails.BadRequest)
	if !ok || len(bad.GetFieldViolations()) != 1 {
		t.Fatalf("details = %v, want a BadRequest with one violation", st.Details())
	}
	if v := bad.GetFieldViolations()[0]; v.GetField() != field || v.GetReason() != reason || v.GetDescription() == "" {
		t.Errorf("violation = %v, want %s of %s", v, reason, field)
	}
}

func TestSpans(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	signer := kittest.NewSigner(t)
	verifier, err := kit.NewVerifier(signer.Public)
	if err != nil {
		t.Fatal(err)
	}
	unary, err := kit.Unary(kit.InterceptorOptions{
		Verifier: verifier, Logger: slog.New(slog.DiscardHandler),
		Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)),
	})
	if err != nil {
		t.Fatal(err)
	}
	const traceID, spanID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(
		kit.AssertionKey, signer.Token(t, kit.Caller{}, testService), "traceparent", "00-"+traceID+"-"+spanID+"-01"))
	for _, how := range []string{"", "panic", "wrapped"} {
		_, _ = unary(ctx, &testv1.EchoRequest{Id: how}, &grpc.UnaryServerInfo{FullMethod: "/" + testService + "/Echo"},
			func(ctx context.Context, req any) (any, error) { return fake{}.Echo(ctx, req.(*testv1.EchoRequest)) })
	}
	ended := spans.Ended()
	if len(ended) != 3 {
		t.Fatalf("%d spans ended, want 3", len(ended))
	}
	for i, want := range []codes.Code{codes.Unset, codes.Error, codes.Unset} {
		s := ended[i]
		if s.Name() != testService+"/Echo" || s.SpanKind() != trace.SpanKindServer || s.Status().Code != want {
			t.Errorf("span %d = %s %s %v, want status %v", i, s.Name(), s.SpanKind(), s.Status(), want)
		}
		if s.SpanContext().TraceID().String() != traceID || s.Parent().SpanID().String() != spanID {
			t.Errorf("span %d has trace %s and parent %s", i, s.SpanContext().TraceID(), s.Parent().SpanID())
		}
	}
}

func TestInterceptorsNeedAVerifier(t *testing.T) {
	if _, err := kit.Unary(kit.InterceptorOptions{}); err == nil {
		t.Error("Unary without a verifier")
	}
	if _, err := kit.Stream(kit.InterceptorOptions{}); err == nil {
		t.Error("Stream without a verifier")
	}
}
