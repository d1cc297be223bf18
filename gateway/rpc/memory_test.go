package rpc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/rpc"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// spoiling is a pool that spoils what is given back before it lends it again:
// who reads freed memory sends that.
type spoiling struct{ mem.BufferPool }

func (p spoiling) Put(b *[]byte) {
	copy((*b)[:cap(*b)], spoilt)
	p.BufferPool.Put(b)
}

var spoilt = bytes.Repeat([]byte{0xee}, 128<<10)

// spoil is called before any server or connection is made, for all tests.
func spoil() { experimental.SetDefaultBufferPool(spoiling{mem.DefaultBufferPool()}) }

// numbered is a message with a field of n bytes, each of which says which message it is.
func numbered(i, n int) []byte {
	b := bytes.Repeat([]byte{byte(i*31 + 7)}, max(n, 8)) //nolint:gosec // Any byte will do.
	binary.BigEndian.PutUint64(b, uint64(i))             //nolint:gosec // Not negative.
	return protowire.AppendBytes(protowire.AppendTag(nil, 100, protowire.BytesType), b)
}

func isNumbered(b []byte, i, n int) bool { return bytes.Equal(b, numbered(i, n)) }

// service is what stands behind the edge: echo waits for a while when asked to.
type testService struct {
	sent atomic.Int64 // by Down
	took atomic.Int64 // by Up
	let  chan struct{}
	size int
	n    int
}

func (s *testService) desc() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: service[1 : len(service)-1], HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Echo", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := &wire.Frame{}
			if err := decode(in); err != nil {
				return nil, err
			}
			if len(in.Data) > 0 && in.Data[len(in.Data)-1]&1 == 1 {
				time.Sleep(time.Millisecond) // So that calls are cancelled on the way.
			}
			return &wire.Frame{Data: bytes.Clone(in.Data)}, nil
		}}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Down", ServerStreams: true, Handler: s.down},
			{StreamName: "Up", ClientStreams: true, Handler: s.up},
			{StreamName: "Chat", ClientStreams: true, ServerStreams: true, Handler: chatting},
		},
	}
}

func (s *testService) down(_ any, st grpc.ServerStream) error {
	if err := st.RecvMsg(&wire.Frame{}); err != nil {
		return err
	}
	for i := range s.n {
		if err := st.SendMsg(&wire.Frame{Data: numbered(i, s.size)}); err != nil {
			return err
		}
		s.sent.Add(1)
	}
	return nil
}

// up reads nothing until it is let.
func (s *testService) up(_ any, st grpc.ServerStream) error {
	<-s.let
	for i := 0; ; i++ {
		in := &wire.Frame{}
		if err := st.RecvMsg(in); errors.Is(err, io.EOF) {
			return st.SendMsg(&wire.Frame{Data: numbered(i, 8)})
		} else if err != nil {
			return err
		}
		if !isNumbered(in.Data, i, s.size) {
			return status.Errorf(codes.Aborted, "message %d is not right", i)
		}
		in.Free()
		s.took.Add(1)
	}
}

func chatting(_ any, st grpc.ServerStream) error {
	for {
		in := &wire.Frame{}
		if err := st.RecvMsg(in); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := st.SendMsg(in); err != nil {
			return err
		}
		in.Free()
	}
}

// before starts an edge before the service: over TCP, or in this process.
func before(t *testing.T, s *testService, remote bool) *edge {
	t.Helper()
	var target upstream.Target
	if remote {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		srv := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}), grpc.StaticStreamWindowSize(64<<10), grpc.StaticConnWindowSize(1<<20))
		srv.RegisterService(s.desc(), struct{}{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = srv.Serve(l)
		}()
		t.Cleanup(func() {
			srv.Stop()
			<-done
		})
		if target, err = upstream.Remote(upstream.RemoteOptions{Target: "passthrough:///" + l.Addr().String()}); err != nil {
			t.Fatal(err)
		}
	} else {
		target = upstream.InProcess(upstream.Host{Name: "test", Logger: slog.New(slog.DiscardHandler), Register: func(r grpc.ServiceRegistrar) {
			r.RegisterService(s.desc(), struct{}{})
		}})
	}
	t.Cleanup(func() { _ = target.Close() })
	return start(t, func(o *rpc.Options) {
		streaming := policy.Override{StreamIdle: time.Minute, StreamMaxAge: time.Minute}
		overrides := map[string]policy.Override{
			service[1:] + "Echo": {Deadline: time.Minute},
			service[1:] + "Down": streaming, service[1:] + "Up": streaming, service[1:] + "Chat": streaming,
		}
		var err error
		if o.Catalogue, err = schema.New([]protoreflect.ServiceDescriptor{testv1.File_sluice_test_v1_test_proto.Services().Get(0)}, schema.Options{Defaults: policy.Defaults{Deadline: time.Minute, StreamIdle: time.Minute, StreamMaxAge: time.Minute, MaxRequestBytes: 1 << 20}, Overrides: overrides, Linked: protoregistry.GlobalTypes}); err != nil {
			t.Fatal(err)
		}
		conn, err := upstream.New(upstream.Options{Catalogue: o.Catalogue, Targets: map[string]upstream.Target{
			string(testv1.File_sluice_test_v1_test_proto.Services().Get(0).FullName()): target,
		}, Signer: signer{}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		o.Conn = conn
	})
}

var connections = map[string]bool{"over TCP": true, "in-process": false}

// TestForwardedBytes: whatever its size, every message arrives as it was sent,
// while other calls are cancelled and the pool spoils what is given back.
func TestForwardedBytes(t *testing.T) {
	for name, remote := range connections {
		t.Run(name, func(t *testing.T) {
			e := before(t, &testService{}, remote)
			cc := e.dial(nil)
			var wg sync.WaitGroup
			for g := range 8 {
				wg.Go(func() {
					for i := range 40 {
						n := []int{8, 300, 1<<10 + 1, 5000, 17000, 70000}[(i+g)%6]
						ctx, cancel := context.WithCancel(soon(t))
						if i%4 == 3 {
							time.AfterFunc(time.Duration(i)*20*time.Microsecond, cancel)
						}
						out := &wire.Frame{}
						err := cc.Invoke(ctx, echo, &wire.Frame{Data: numbered(g*1000+i, n)}, out)
						if err == nil && !isNumbered(out.Data, g*1000+i, n) || err != nil && (i%4 != 3 || status.Code(err) != codes.Canceled) {
							t.Errorf("%d bytes: %d, %v", n, len(out.Data), err)
						}
						out.Free()
						cancel()
					}
				})
				wg.Go(func() {
					for range 3 {
						if err := converse(soon(t), cc, 40); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// converse sends messages of all sizes without waiting for what comes back.
func converse(ctx context.Context, cc *grpc.ClientConn, n int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, chat)
	if err != nil {
		return err
	}
	size := func(i int) int { return 8 + i*i*37 }
	go func() {
		for i := range n {
			if st.SendMsg(&wire.Frame{Data: numbered(i, size(i))}) != nil {
				return
			}
		}
		_ = st.CloseSend()
	}()
	for i := range n {
		out := &wire.Frame{}
		if err := st.RecvMsg(out); err != nil {
			return err
		}
		if !isNumbered(out.Data, i, size(i)) {
			return fmt.Errorf("message %d of %d bytes is not right", i, size(i))
		}
		out.Free()
	}
	if err := st.RecvMsg(&wire.Frame{}); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the last: %w", err)
	}
	return nil
}

// settled is a number that has stopped to grow.
func settled(n *atomic.Int64) int64 {
	for last, same := int64(-1), 0; ; {
		now := n.Load()
		if same++; now != last {
			last, same = now, 0
		}
		if same == 20 && now > 0 {
			return now
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestSlowCaller: what a service streams waits in the service while the caller
// does not read. The caller has announced a window of 64 KiB, and so has the
// edge's own connection its window: that much is on the way, and no more.
func TestSlowCaller(t *testing.T) {
	const size, n = 64 << 10, 400 // 25 MiB
	for name, remote := range connections {
		t.Run(name, func(t *testing.T) {
			s := &testService{size: size, n: n}
			e := before(t, s, remote)
			cc := e.dial(nil, grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(1<<20))
			at := heap()
			st, err := cc.NewStream(soon(t), &grpc.StreamDesc{ServerStreams: true}, service+"Down")
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(st.SendMsg(&wire.Frame{}), st.CloseSend()); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				if i == 0 || i == n/2 { // At first, and when it has read fast for a while.
					taken, held := settled(&s.sent)-int64(i), heap()-at
					t.Logf("%d messages on the way after %d, %d KiB held", taken, i, held>>10)
					if taken*size > 2<<20 || held > 8<<20 {
						t.Errorf("%d messages on the way after %d, %d KiB held", taken, i, held>>10)
					}
				}
				out := &wire.Frame{}
				if err := st.RecvMsg(out); err != nil || !isNumbered(out.Data, i, size) {
					t.Fatalf("message %d: %d bytes, %v", i, len(out.Data), err)
				}
				out.Free()
			}
			if err := st.RecvMsg(&wire.Frame{}); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		})
	}
}

// TestSlowService: the same the other way.
func TestSlowService(t *testing.T) {
	const size, n = 64 << 10, 400
	for name, remote := range connections {
		t.Run(name, func(t *testing.T) {
			s := &testService{size: size, n: n, let: make(chan struct{})}
			e := before(t, s, remote)
			at := heap()
			st, err := e.dial(nil).NewStream(soon(t), &grpc.StreamDesc{ClientStreams: true}, service+"Up")
			if err != nil {
				t.Fatal(err)
			}
			var sent atomic.Int64
			done := make(chan error, 1)
			go func() {
				for i := range n {
					if err := st.SendMsg(&wire.Frame{Data: numbered(i, size)}); err != nil {
						done <- err
						return
					}
					sent.Add(1)
				}
				done <- st.CloseSend()
			}()
			taken, held := settled(&sent), heap()-at
			t.Logf("%d messages of %d taken, %d KiB held", taken, n, held>>10)
			if taken*size > 2<<20 || held > 8<<20 {
				t.Errorf("%d messages of %d taken, %d KiB held", taken, n, held>>10)
			}
			close(s.let)
			out := &wire.Frame{}
			if err := errors.Join(<-done, st.RecvMsg(out)); err != nil || !isNumbered(out.Data, n, 8) || s.took.Load() != n {
				t.Errorf("%d messages arrived, %x, %v", s.took.Load(), out.Data, err)
			}
		})
	}
}
