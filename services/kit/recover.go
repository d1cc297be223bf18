package kit

import (
	"context"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// recovered, deferred, turns a panic into INTERNAL. The peer learns nothing of
// it; the log gets the stack. In-process, a panic that passed would end the
// gateway.
func recovered(ctx context.Context, log callLog, err *error) {
	if p := recover(); p != nil {
		log.write(ctx, slog.LevelError, "panic in a handler",
			slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		*err = status.Error(codes.Internal, "internal error")
	}
}
