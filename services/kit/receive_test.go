package kit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/kittest"
)

// bytesCodec sends []byte as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}
func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
func (bytesCodec) Name() string { return "proto" }

func (f fake) Down(req *testv1.DownRequest, stream grpc.ServerStreamingServer[testv1.EchoResponse]) error {
	return stream.Send(&testv1.EchoResponse{Index: req.GetCount()})
}

// TestGarbageIsTheCallersFault: bytes that are no message make no noise in the log
// of the service.
func TestGarbageIsTheCallersFault(t *testing.T) {
	log := &logBuffer{}
	c := kittest.Serve(t, "tcp", register, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	garbage, notUTF8 := []byte{0x08, 0xff}, []byte{0x0a, 0x01, 0xff}
	for i, tt := range []struct {
		name, method string
		sent         [][]byte
		code         grpccodes.Code // in the log
	}{
		{"a message", "Down", [][]byte{{0x08, 0x02}}, grpccodes.OK},
		{"a message that breaks the rules", "Down", [][]byte{{0x18, 0x7f}}, grpccodes.InvalidArgument},
		{"garbage to a stream of answers", "Down", [][]byte{garbage}, grpccodes.InvalidArgument},
		{"no message", "Down", nil, grpccodes.InvalidArgument},
		{"two messages", "Down", [][]byte{{}, {}}, grpccodes.InvalidArgument},
		{"garbage to a stream of requests", "Up", [][]byte{{}, garbage}, grpccodes.InvalidArgument},
		{"a string that is not UTF-8", "Up", [][]byte{notUTF8}, grpccodes.InvalidArgument},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := fmt.Sprintf("garbage-%d", i)
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", id)
			stream, err := c.As("ada").NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
				"/"+testService+"/"+tt.method, grpc.ForceCodecV2(bytesCodec{}))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range tt.sent {
				if err := stream.SendMsg(m); err != nil && !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
			}
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			var answer []byte
			for err == nil {
				err = stream.RecvMsg(&answer)
			}
			if errors.Is(err, io.EOF) != (tt.code == grpccodes.OK) {
				t.Errorf("stream ended with %v", err)
			}
			line := waitForLine(t, log, id)
			if !strings.Contains(line, `"level":"DEBUG"`) || !strings.Contains(line, `"code":"`+tt.code.String()+`"`) {
				t.Errorf("logged %s, want %s for debugging", line, tt.code)
			}
		})
	}
	// A unary call's message is read before the interceptors.
	var answer []byte
	err := c.As("ada").Invoke(t.Context(), "/"+testService+"/Echo", garbage, &answer, grpc.ForceCodecV2(bytesCodec{}))
	if err == nil || strings.Contains(log.String(), `"ERROR"`) || strings.Contains(log.String(), "/Echo") {
		t.Errorf("garbage to a unary call = %v, logged %s", err, log)
	}
}

// waitForLine returns the line of a call, which is written after the caller has
// its answer.
func waitForLine(t *testing.T, log *logBuffer, id string) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if line := lineWith(log.String(), id); line != "" {
			return line
		}
	}
	t.Fatalf("no line of %s in %s", id, log)
	return ""
}

// brokenStream fails to receive.
type brokenStream struct {
	grpc.ServerStream
	ctx context.Context
	err error
}

func (s brokenStream) Context() context.Context { return s.ctx }
func (s brokenStream) RecvMsg(any) error        { return s.err }

// TestReceiving: what other connections than grpc-go's say reaches the caller as
// the interceptor put it.
func TestReceiving(t *testing.T) {
	signer := kittest.NewSigner(t)
	verifier, err := kit.NewVerifier(signer.Public)
	if err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	stream, err := kit.Stream(kit.InterceptorOptions{Verifier: verifier, Logger: slog.New(slog.NewJSONHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		err     error
		code    grpccodes.Code
		message string
		logged  bool
	}{
		{"unreadable", status.Error(grpccodes.Internal, "grpc: failed to unmarshal the received message: secret"), grpccodes.InvalidArgument, "the request is not a valid message", false},
		{"too large", status.Error(grpccodes.ResourceExhausted, "too large"), grpccodes.ResourceExhausted, "too large", false},
		{"cancelled", status.Error(grpccodes.Canceled, "gone"), grpccodes.Canceled, "gone", false},
		{"the end", io.EOF, grpccodes.OK, "", false},
		{"no status", errors.New("secret"), grpccodes.Internal, "internal error", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(log.String())
			ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(kit.AssertionKey, signer.Token(t, kit.Caller{}, testService)))
			err := stream(nil, brokenStream{ctx: ctx, err: tt.err}, &grpc.StreamServerInfo{FullMethod: "/" + testService + "/Up"},
				func(_ any, ss grpc.ServerStream) error {
					if err := ss.RecvMsg(&testv1.EchoRequest{}); !errors.Is(err, io.EOF) {
						return err
					}
					return nil
				})
			if st := status.Convert(err); st.Code() != tt.code || st.Message() != tt.message {
				t.Errorf("err = %v, want %s %q", err, tt.code, tt.message)
			}
			if logged := len(log.String()) > before; logged != tt.logged {
				t.Errorf("logged %q", log.String()[before:])
			}
		})
	}
}
