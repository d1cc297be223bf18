package telemetry

import (
	"context"
	"encoding/hex"
	"log/slog"
	"sync"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// message is what the lines of the access log have as msg.
const message = "request"

// line is a line of the access log in the making.
type line struct {
	request    *Request
	code       string
	end        time.Time
	took       time.Duration
	suppressed int

	text [64]byte // room for the trace id, then for the address
}

// fieldWriter takes the fields of a line, in their order. zap's encoders are such.
type fieldWriter interface {
	AddString(key, value string)
	AddByteString(key string, value []byte) // does not keep the value
	AddInt64(key string, value int64)
	AddFloat64(key string, value float64)
}

// fields writes what the access log says of a request: both ways of writing it
// begin here. Operators rely on the names (docs/operations.md).
func (l *line) fields(w fieldWriter) {
	r := l.request
	w.AddString("edge", string(r.Edge))
	w.AddString("request_id", r.ID)
	if r.span != nil {
		if id := r.span.SpanContext().TraceID(); id.IsValid() {
			w.AddByteString("trace_id", hex.AppendEncode(l.text[:0], id[:]))
		}
	}
	w.AddString("method", r.methodLabel())
	w.AddString("route", r.Route)
	w.AddString("grpc_method", r.RPC)
	w.AddString("status", l.code)
	w.AddFloat64("duration_ms", float64(l.took.Microseconds())/1000)
	if r.Client.IsValid() {
		w.AddByteString("client", r.Client.AppendTo(l.text[:0]))
	} else {
		w.AddString("client", r.Client.String())
	}
	if c := r.Call; c != nil {
		if c.Principal != nil {
			w.AddString("principal", c.Principal.Subject)
		}
		w.AddString("upstream", c.Upstream)
		traffic(w, c)
		if c.DeniedBy != "" {
			w.AddString("denied_by", c.DeniedBy)
			if c.Why != "" {
				w.AddString("denied_why", c.Why)
			}
			if l.suppressed > 0 {
				w.AddInt64("suppressed", int64(l.suppressed))
			}
		}
	}
	w.AddInt64("bytes_in", r.BytesIn)
	w.AddInt64("bytes_out", r.BytesOut)
}

// traffic writes what became of the call on its way to the service, where that is
// worth saying: most calls are sent once, to the service itself.
func traffic(w fieldWriter, c *policy.Call) {
	if c.Backend != "" {
		w.AddString("backend", c.Backend)
	}
	if c.Variant != "" {
		w.AddString("variant", c.Variant)
	}
	if c.Attempts > 1 {
		w.AddInt64("attempts", int64(c.Attempts))
	}
	if c.Cache != "" {
		w.AddString("cache", c.Cache)
	}
	if c.Breaker != "" {
		w.AddString("refused_by", c.Breaker)
	}
}

// logLine writes the request's line.
func (t *Telemetry) logLine(ctx context.Context, l line) {
	p := linePool.Get().(*pooledLine)
	p.line = l
	if t.o.Output != nil {
		t.o.Output.line(p)
	} else {
		p.fields(&p.attrs)
		t.o.Access.LogAttrs(ctx, slog.LevelInfo, message, p.attrs...) // Which copies them.
		clear(p.attrs)
		p.attrs = p.attrs[:0]
	}
	p.line = line{} // Nothing of a request is kept.
	linePool.Put(p)
}

// slogFields makes attributes of the fields.
type slogFields []slog.Attr

func (s *slogFields) AddString(key, value string) { *s = append(*s, slog.String(key, value)) }
func (s *slogFields) AddByteString(key string, value []byte) {
	*s = append(*s, slog.String(key, string(value)))
}
func (s *slogFields) AddInt64(key string, value int64)     { *s = append(*s, slog.Int64(key, value)) }
func (s *slogFields) AddFloat64(key string, value float64) { *s = append(*s, slog.Float64(key, value)) }

// pooledLine is a line as zap is told of it: one field, which writes all. For
// slog there is room for the attributes.
type pooledLine struct {
	line
	field [1]zapcore.Field
	plain plainLine
	attrs slogFields
}

var linePool = sync.Pool{New: func() any {
	p := &pooledLine{}
	p.field[0] = zapcore.Field{Type: zapcore.InlineMarshalerType, Interface: p}
	return p
}}

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (p *pooledLine) MarshalLogObject(e zapcore.ObjectEncoder) error {
	p.fields(e)
	return nil
}
