package load

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluice-gateway/sluice/tools/bench/raw"
)

// GRPC makes one unary call over and over, its request ready in bytes. The
// answer is not parsed: an empty one is an error.
type GRPC struct {
	conn    *grpc.ClientConn
	method  string
	request []byte
	ctx     context.Context //nolint:containedctx // of all its calls, for Interrupt
	cancel  context.CancelFunc
}

// NewGRPC returns a caller of method at addr over a connection of its own.
func NewGRPC(addr, method string, request []byte) (*GRPC, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw.Codec{})))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &GRPC{conn: conn, method: method, request: request, ctx: ctx, cancel: cancel}, nil
}

// Call makes the call.
func (g *GRPC) Call(context.Context, int) error {
	var answer raw.Message
	if err := g.conn.Invoke(g.ctx, g.method, raw.New(g.request), &answer); err != nil {
		return err
	}
	n := answer.Data.Len()
	answer.Free()
	if n == 0 {
		return errors.New("an empty answer")
	}
	return nil
}

// Interrupt ends a call in flight.
func (g *GRPC) Interrupt() { g.cancel() }

// Close ends the connection.
func (g *GRPC) Close() error {
	g.cancel()
	return g.conn.Close()
}
