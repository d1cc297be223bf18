package httpedge

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
)

// Options of a Server. Telemetry and Logger are needed.
type Options struct {
	// Protocols are asked in this order whether a request is theirs.
	Protocols []Protocol
	// Methods are those that some path of the protocols takes, beside GET, HEAD and
	// OPTIONS: for `OPTIONS *` and for CORS.
	Methods []string
	// ExposedHeaders are response headers that pages of other origins may read, beside
	// those that the edge itself sets.
	ExposedHeaders []string
	// Arrival are the checks of every request, whatever it asks for: they run
	// before path and route are looked at, on a call without a method.
	Arrival policy.Chain
	// Edge are the checks before any body is read.
	Edge policy.Chain
	// Client says who the caller is, given the peer and the values of a header; nil
	// means the peer. See clientaddr.Resolver.
	Client func(peer netip.Addr, headers func(key string) []string) netip.Addr
	// Telemetry observes.
	Telemetry *telemetry.Telemetry
	// Denied is told of every refusal of a chain, those of Arrival without a
	// method; nil means nobody.
	Denied func(check string, m *policy.Method)
	// Refused is told of every request that one of the edge's own bounds refuses,
	// by the bound's name: header_count, host, target, url_bytes, path,
	// query_parameters, media_type, encoding, body_bytes, decoded_body_bytes,
	// body_slow, json_depth, cross_origin. Safe for concurrent use; nil means nobody.
	Refused func(limit string)
	// Logger gets panics and failures to answer.
	Logger *slog.Logger
	// ReadTimeout bounds how long a request body may take; 0 means 30s.
	ReadTimeout time.Duration
	// MaxHeaders bounds the header lines of a request, Host aside; 0 means 100.
	MaxHeaders int
	// MaxURLBytes bounds the request target; 0 means 8192.
	MaxURLBytes int
	// MaxQueryParameters bounds the parameters of a query, repeated ones each; 0
	// means 100.
	MaxQueryParameters int
	// MaxConnectionAge is the age at which a connection is asked to close, less up
	// to a fifth of it by chance. It needs ConnContext on the http.Server. 0 means
	// never.
	MaxConnectionAge time.Duration
	// Closing says of the answer that is about to be sent whether it is the last on
	// its connection, for the gateway goes away; nil means that none is. Safe for
	// concurrent use.
	Closing func() bool
	// CORS says which pages of other origins may call; nil means none.
	CORS *CORSOptions
	// APIKeyHeader is the header that API keys come in; empty means that there are
	// none. A request that has it was not made by a page of another origin, unless
	// CORS let it.
	APIKeyHeader string
	// HSTSMaxAge is the max-age of Strict-Transport-Security (RFC 6797) on answers
	// over TLS; 0 means no such header.
	HSTSMaxAge time.Duration
	// Health is the path that load balancers ask.
	Health Health
	// Middlewares wrap the whole edge, the first outermost.
	Middlewares []func(http.Handler) http.Handler
}

func (o *Options) fill() error {
	if o.ReadTimeout <= 0 {
		o.ReadTimeout = 30 * time.Second
	}
	for _, d := range []struct {
		value *int
		def   int
	}{{&o.MaxHeaders, 100}, {&o.MaxURLBytes, 8 << 10}, {&o.MaxQueryParameters, 100}} {
		if *d.value < 0 {
			return errors.New("httpedge: a bound is negative")
		}
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if o.Refused == nil {
		o.Refused = func(string) {}
	}
	if o.Closing == nil {
		o.Closing = func() bool { return false }
	}
	if o.Denied == nil {
		o.Denied = func(string, *policy.Method) {}
	}
	return nil
}
