package rpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// forward passes on a unary call.
func (s *Server) forward(ctx context.Context, x *exchange, in *wire.Frame, decode func(any) error) (*wire.Frame, error) {
	admitted, m, err := s.admit(ctx)
	if err != nil {
		return nil, err
	}
	if err := decode(in); err != nil {
		return nil, err
	}
	if err := s.fits(m, len(in.Data)); err != nil {
		return nil, err
	}
	a := &x.room.answer
	*a = upstream.Answer{} // A team's interceptor may call twice.
	err = x.state.Conn.Call(admitted, x.call, in, a)
	x.add(a.Header)
	x.addTrailer(a.Trailer)
	if err != nil {
		return nil, err
	}
	return &a.Message, nil
}

// stream serves a streaming method: one goroutine pumps
// towards the caller, and where the caller streams, another towards the
// service. Each waits for its reader, so a slow one holds back the other side
// and nothing piles up here.
func (s *Server) stream(down grpc.ServerStream, of *offered) error {
	ctx, m, err := s.admit(down.Context())
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
	up, err := x.state.Conn.Stream(ctx, x.call)
	if err != nil {
		return err
	}
	defer unstick(down.Context(), up.Context())()
	if of.stream.ClientStreams {
		x.lease.arrived() // It may wait for the service before it says anything.
		pumped = make(chan struct{})
		go func() {
			defer close(pumped)
			s.pump(down, up, m, cancel)
		}()
	} else if err := s.one(down, up, m); err != nil {
		return err
	}
	return s.back(x, down, up, of.stream.ServerStreams)
}

// one passes on the only message of a caller.
func (s *Server) one(down grpc.ServerStream, up upstream.Stream, m *policy.Method) error {
	in := &wire.Frame{}
	if err := s.receive(down, in, m); err != nil {
		return err
	}
	if err := up.Send(in); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return up.CloseSend()
}

// pump passes on what the caller streams, until either side ends. A caller's
// message that is refused ends the call: upstream answers with the cause of its
// context.
func (s *Server) pump(down grpc.ServerStream, up upstream.Stream, m *policy.Method, cancel context.CancelCauseFunc) {
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
		if up.Send(in) != nil { // The pump towards the caller learns why.
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

// back passes on what the service answers: a stream, or one message.
func (s *Server) back(x *exchange, down grpc.ServerStream, up upstream.Stream, streams bool) error {
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
		err := up.Receive(out)
		if err != nil || !streams { // Until the stream has ended, it has none that could be read.
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
		if !streams {
			return nil
		}
	}
}
