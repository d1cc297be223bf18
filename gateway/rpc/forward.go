package rpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// describe makes the description of a service that grpc-go serves: unary
// methods stay unary, so that unary interceptors see them.
func (s *Server) describe(sd protoreflect.ServiceDescriptor) *grpc.ServiceDesc {
	desc := &grpc.ServiceDesc{ServiceName: string(sd.FullName()), HandlerType: (*any)(nil), Metadata: sd.ParentFile().Path()}
	for i := range sd.Methods().Len() {
		md := sd.Methods().Get(i)
		m := s.o.Catalogue.Method("/" + string(sd.FullName()) + "/" + string(md.Name()))
		if m == nil { // Not in the table, not offered: the table fails the start for methods without rules.
			continue
		}
		if !m.Streaming() {
			desc.Methods = append(desc.Methods, grpc.MethodDesc{MethodName: string(md.Name()), Handler: s.unary(m.Method)})
			continue
		}
		desc.Streams = append(desc.Streams, grpc.StreamDesc{
			StreamName:    string(md.Name()),
			ClientStreams: md.IsStreamingClient(),
			ServerStreams: md.IsStreamingServer(),
			Handler:       s.stream(m.Method),
		})
	}
	return desc
}

// unary returns the handler of a method: admission comes before the message,
// so that who may not call cannot make us read.
func (s *Server) unary(offered *policy.Method) grpc.MethodHandler {
	name := offered.FullName
	return func(srv any, ctx context.Context, decode func(any) error, team grpc.UnaryServerInterceptor) (any, error) {
		if team == nil {
			x := exchangeOf(ctx)
			if x == nil {
				return nil, errNotObserved
			}
			in := &x.room.in
			out, err := s.forward(ctx, name, in, decode)
			if err != nil { // After a cancel, a service in this process may still be reading.
				return nil, err
			}
			x.parsed = true
			out.HandOver()
			return out, nil
		}
		in := &wire.Frame{}
		if err := decode(in); err != nil { // A team's interceptors see the message.
			return nil, err
		}
		return team(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: name}, func(ctx context.Context, req any) (any, error) {
			out, err := s.forward(ctx, name, req.(*wire.Frame), func(any) error { return nil })
			if err != nil {
				return nil, err
			}
			return out, nil // Neither frame is given back: an interceptor may keep them.
		})
	}
}

func (s *Server) forward(ctx context.Context, name string, in *wire.Frame, decode func(any) error) (*wire.Frame, error) {
	admitted, m, err := s.admit(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := decode(in); err != nil {
		return nil, err
	}
	if err := s.fits(m, len(in.Data)); err != nil {
		return nil, err
	}
	x := exchangeOf(ctx)
	out := &x.room.out
	err = x.state.Conn.Invoke(admitted, m.FullName, in, out, grpc.Header(&x.room.answered), grpc.Trailer(&x.room.ended))
	x.add(x.room.answered)
	x.addTrailer(x.room.ended)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// stream returns the handler of a streaming method: one goroutine pumps
// towards the caller, and where the caller streams, another towards the
// service. Each waits for its reader, so a slow one holds back the other side
// and nothing piles up here.
func (s *Server) stream(offered *policy.Method) grpc.StreamHandler {
	d, name := offered.Descriptor, offered.FullName
	desc := &grpc.StreamDesc{StreamName: string(d.Name()), ClientStreams: d.IsStreamingClient(), ServerStreams: d.IsStreamingServer()}
	return func(_ any, down grpc.ServerStream) error {
		ctx, m, err := s.admit(down.Context(), name)
		if err != nil {
			return err
		}
		x := exchangeOf(ctx)
		x.open() // Before another goroutine reads.
		var pumped chan struct{}
		defer func() {
			// Nothing holds up the pump of a call that the caller has given up; calls
			// made and reset at once must not leave behind more of them than may run.
			if pumped != nil && down.Context().Err() != nil {
				<-pumped
			}
		}()
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		up, err := x.state.Conn.NewStream(ctx, desc, name)
		if err != nil {
			return err
		}
		defer unstick(down.Context(), up.Context())()
		if desc.ClientStreams {
			x.lease.arrived() // It may wait for the service before it says anything.
			pumped = make(chan struct{})
			go func() {
				defer close(pumped)
				s.pump(down, up, m, cancel)
			}()
		} else if err := s.one(down, up, m); err != nil {
			return err
		}
		return s.back(x, down, up, desc)
	}
}

// one passes on the only message of a caller.
func (s *Server) one(down grpc.ServerStream, up grpc.ClientStream, m *policy.Method) error {
	in := &wire.Frame{}
	if err := s.receive(down, in, m); err != nil {
		return err
	}
	if err := up.SendMsg(in); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return up.CloseSend()
}

// pump passes on what the caller streams, until either side ends. A caller's
// message that is refused ends the call: upstream answers with the cause of its
// context.
func (s *Server) pump(down grpc.ServerStream, up grpc.ClientStream, m *policy.Method, cancel context.CancelCauseFunc) {
	var in *wire.Frame
	for {
		in = s.sent(in)
		err := s.receive(down, in, m)
		if errors.Is(err, io.EOF) {
			if up.CloseSend() != nil {
				cancel(nil)
			}
			return
		}
		if err != nil {
			cancel(err)
			return
		}
		if up.SendMsg(in) != nil { // The pump towards the caller learns why.
			return
		}
	}
}

// sent returns the frame for a stream's next message, in place of the one that
// was sent: grpc-go holds on to the memory of what it has not written yet, and
// an in-process connection has made a copy.
func (s *Server) sent(f *wire.Frame) *wire.Frame {
	if f == nil || len(s.o.Stream) > 0 { // A team's interceptors may keep messages.
		return &wire.Frame{}
	}
	f.Free()
	return f
}

func (s *Server) receive(down grpc.ServerStream, in *wire.Frame, m *policy.Method) error {
	if err := down.RecvMsg(in); err != nil {
		return err
	}
	return s.fits(m, len(in.Data))
}

// back passes on what the service answers.
func (s *Server) back(x *exchange, down grpc.ServerStream, up grpc.ClientStream, desc *grpc.StreamDesc) error {
	header, err := up.Header()
	if err != nil {
		return err
	}
	x.add(header)
	if err := down.SendHeader(x.header); err != nil {
		return err
	}
	x.header = metadata.MD{} // grpc-go keeps the other.
	var out *wire.Frame
	for {
		out = s.sent(out)
		err := up.RecvMsg(out)
		if err != nil || !desc.ServerStreams { // Until the stream has ended, it has none that could be read.
			x.addTrailer(up.Trailer())
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := down.SendMsg(out); err != nil {
			return err
		}
		if !desc.ServerStreams {
			return nil
		}
	}
}
