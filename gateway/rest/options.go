package rest

import (
	"errors"
	"log/slog"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// Options of a Server. Catalogue, Services, Conn, Telemetry and
// Logger are needed.
type Options struct {
	// Catalogue has the methods with their rules and bindings.
	Catalogue *schema.Catalogue
	// Services are their generated handlers.
	Services []Service
	// Conn is where calls go.
	Conn upstream.Sender
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
