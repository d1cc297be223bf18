package kit

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	requestIDKey      = "x-request-id"
	maxRequestIDBytes = 128
)

// callLog writes the lines of one call. Its attributes are gathered only for
// lines that are written.
type callLog struct {
	log    *slog.Logger
	method string
}

// ended logs how a call ended: faults with their cause, all else for debugging
// (the gateway has the access log).
func (l callLog) ended(ctx context.Context, err, cause error) {
	code := status.Code(err)
	if isFault(code) {
		l.write(ctx, slog.LevelError, "call failed", slog.String("code", code.String()), slog.Any("cause", cause))
		return
	}
	if l.log.Enabled(ctx, slog.LevelDebug) { // Asked before the attribute is made.
		l.write(ctx, slog.LevelDebug, "call", slog.String("code", code.String()))
	}
}

func (l callLog) write(ctx context.Context, level slog.Level, msg string, attrs ...slog.Attr) {
	if !l.log.Enabled(ctx, level) {
		return
	}
	attrs = append(attrs, slog.String("grpc_method", l.method), slog.String("request_id", requestID(ctx)))
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		attrs = append(attrs, slog.String("trace_id", sc.TraceID().String()))
	}
	l.log.LogAttrs(ctx, level, msg, attrs...)
}

// requestID returns the request's id, or "" when it is none that the gateway
// would have sent: log lines are no place for a stranger's bytes.
func requestID(ctx context.Context) string {
	ids := metadata.ValueFromIncomingContext(ctx, requestIDKey)
	if len(ids) != 1 || len(ids[0]) > maxRequestIDBytes {
		return ""
	}
	for _, b := range []byte(ids[0]) {
		if b < 0x20 || b > 0x7e {
			return ""
		}
	}
	return ids[0]
}
