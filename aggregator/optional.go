package aggregator

import (
	"context"

	"google.golang.org/grpc"
)

// CallOption tells the connection of an optional branch that the composite can do
// without it: where a service has too much to do, such calls are refused before those
// that somebody waits for. A connection that does not know it ignores it.
type CallOption struct{ grpc.EmptyCallOption }

// OptionalBranch is what a connection knows the option by, without this package.
func (CallOption) OptionalBranch() {}

type optionalKey struct{}

// isOptional says whether ctx is that of an optional branch.
func isOptional(ctx context.Context) bool { return ctx.Value(optionalKey{}) != nil }

var optionalOptions = []grpc.CallOption{CallOption{}}

// callOptions are those of a branch's call.
func callOptions(ctx context.Context) []grpc.CallOption {
	if isOptional(ctx) {
		return optionalOptions
	}
	return nil
}
