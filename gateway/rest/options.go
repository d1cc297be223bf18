package rest

import (
	"errors"
	"log/slog"

	"google.golang.org/grpc"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
)

// Options of a Server. Methods, Services, Conn, Telemetry and
// Logger are needed.
type Options struct {
	// Methods are the methods with their rules.
	Methods *policy.Table
	// Services are their generated handlers.
	Services []Service
	// Conn is what the handlers call.
	Conn grpc.ClientConnInterface
	// Telemetry counts by route.
	Telemetry *telemetry.Telemetry
	// Logger gets failures to answer.
	Logger *slog.Logger
	// MaxJSONDepth bounds how deep a JSON body nests; 0 means 64.
	MaxJSONDepth int
	// Compressor compresses answers; nil means that none are.
	Compressor *httpedge.Compressor
	// APIKeyHeader is the header that API keys come in; empty means that there are
	// none. What is kept for one caller depends on it.
	APIKeyHeader string
}

func (o *Options) fill() error {
	if o.MaxJSONDepth < 0 {
		return errors.New("rest: a bound is negative")
	}
	if o.MaxJSONDepth == 0 {
		o.MaxJSONDepth = 64
	}
	return nil
}
