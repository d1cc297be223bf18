package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/transcode"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// target stands in for where a service runs: it takes calls, and answers them
// with empty messages. Composites run as they do.
func (r *recorder) target(ctx context.Context, s *snapshot, svc Service) (upstream.Target, error) {
	methods := map[string]protoreflect.MessageDescriptor{}
	for i := range svc.Descriptor.Methods().Len() {
		md := svc.Descriptor.Methods().Get(i)
		methods["/"+string(svc.Descriptor.FullName())+"/"+string(md.Name())] = md.Input()
	}
	t := &recordedTarget{r: r, name: "inprocess", inputs: methods, types: s.catalogue.Types()}
	if u := s.cfg.GetUpstreams()[string(svc.Descriptor.FullName())]; u != nil {
		t.name = u.GetTarget()
		return t, nil
	}
	if svc.Embed == nil {
		return nil, errors.New("it cannot run in this process: name its target under upstreams")
	}
	if !svc.Composite {
		return t, nil
	}
	host, err := svc.Embed(ctx, s.embedding())
	if err != nil {
		return nil, err
	}
	t.name += ":" + host.Name
	host.Logger, host.Unary = s.log, t.before(host.Unary)
	return upstream.InProcess(host), nil
}

// recordedTarget is an upstream.Target that calls nobody.
type recordedTarget struct {
	r      *recorder
	name   string
	inputs map[string]protoreflect.MessageDescriptor
	types  transcode.Resolver
}

func (t *recordedTarget) String() string { return t.name }

func (t *recordedTarget) Close() error { return nil }

// before records a composite's own call, which then runs.
func (t *recordedTarget) before(next grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		t.r.send(ctx, t.name, []string{t.json(req.(proto.Message))})
		if next == nil {
			return handle(ctx, req)
		}
		return next(ctx, req, info, handle)
	}
}

func (t *recordedTarget) Invoke(ctx context.Context, method string, request, _ *wire.Frame, _, _ *metadata.MD) error {
	t.r.send(ctx, t.name, []string{t.text(method, request)})
	return nil
}

func (t *recordedTarget) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return &recordedStream{t: t, ctx: ctx, desc: desc, method: method, sent: make(chan struct{})}, nil
}

// text is a message as JSON.
func (t *recordedTarget) text(method string, f *wire.Frame) string {
	m, err := t.parse(t.inputs[method].FullName(), f.Data)
	if err != nil {
		return fmt.Sprintf("%d bytes that are no %s", len(f.Data), t.inputs[method].FullName())
	}
	return t.json(m)
}

func (t *recordedTarget) json(m proto.Message) string {
	b, err := protojson.MarshalOptions{Resolver: t.types}.Marshal(m)
	if err != nil {
		return fmt.Sprintf("a %s that has no JSON form: %v", m.ProtoReflect().Descriptor().FullName(), err)
	}
	var out bytes.Buffer
	if json.Compact(&out, b) != nil { // protojson puts in spaces at random.
		return string(b)
	}
	return out.String()
}

func (t *recordedTarget) parse(name protoreflect.FullName, wire []byte) (proto.Message, error) {
	mt, err := t.types.FindMessageByName(name)
	if err != nil {
		return nil, err
	}
	m := mt.New().Interface()
	return m, proto.UnmarshalOptions{Resolver: t.types}.Unmarshal(wire, m)
}

// recordedStream takes what is sent and ends when the caller has ended.
type recordedStream struct {
	t        *recordedTarget
	ctx      context.Context
	desc     *grpc.StreamDesc
	method   string
	messages []string // of the goroutine that sends, until sent is closed
	once     sync.Once
	sent     chan struct{}
	answered bool
}

func (s *recordedStream) Header() (metadata.MD, error) { return nil, nil }
func (s *recordedStream) Trailer() metadata.MD         { return nil }
func (s *recordedStream) Context() context.Context     { return s.ctx }

func (s *recordedStream) SendMsg(m any) error {
	s.messages = append(s.messages, s.t.text(s.method, m.(*wire.Frame)))
	return nil
}

func (s *recordedStream) CloseSend() error {
	s.once.Do(func() {
		s.t.r.send(s.ctx, s.t.name, s.messages)
		close(s.sent)
	})
	return nil
}

func (s *recordedStream) RecvMsg(any) error {
	select {
	case <-s.sent:
	case <-s.ctx.Done():
		return status.FromContextError(s.ctx.Err()).Err()
	}
	if !s.desc.ServerStreams && !s.answered {
		s.answered = true
		return nil
	}
	return io.EOF
}
