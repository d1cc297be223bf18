package gateway

import (
	"context"

	"google.golang.org/grpc"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// liveBranches is what services in this process call others with. They outlive
// snapshots, and the calls that they make for a caller must not: each goes by the
// snapshot that admitted its caller.
type liveBranches struct{ g *Gateway }

// Call implements upstream.Branches.
func (b liveBranches) Call(ctx context.Context, method string, request []byte) ([]byte, error) {
	return b.of(ctx).Call(ctx, method, request)
}

// Invoke implements grpc.ClientConnInterface.
func (b liveBranches) Invoke(ctx context.Context, method string, in, out any, opts ...grpc.CallOption) error {
	return b.of(ctx).Invoke(ctx, method, in, out, opts...)
}

// NewStream implements grpc.ClientConnInterface.
func (b liveBranches) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return b.of(ctx).NewStream(ctx, desc, method, opts...)
}

// of is the connection of the snapshot whose catalogue the caller's method is from. A
// call that no living one admitted is refused by the current one.
func (b liveBranches) of(ctx context.Context) upstream.Branches {
	now := b.g.current.p.Load().snapshot
	call := policy.Admitted(ctx)
	if call == nil || call.Method == nil || now.offers(call.Method) {
		return now.branches
	}
	for _, s := range b.g.livingSnapshots() {
		if s.offers(call.Method) {
			return s.branches
		}
	}
	return now.branches
}
