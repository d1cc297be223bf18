package telemetry

import (
	"io"
	"sync/atomic"
	"time"

	"go.uber.org/zap/zapcore"
)

// What waits to be written is lost when the process is killed: at most this much,
// of this time.
const (
	outputBuffer = 64 << 10 // bytes
	outputFlush  = 100 * time.Millisecond
)

// Output is where the lines of a log go, as JSON and in the order in which they
// were written. Those of the access log wait for others, up to 64 KiB and 100 ms,
// and are written together: a write costs as much as making the line. All others
// are written at once, with those that wait. No line is ever within another. Safe
// for concurrent use.
type Output struct {
	buffer  zapcore.BufferedWriteSyncer
	encoder zapcore.Encoder
	closed  atomic.Bool // nobody flushes any more
}

// NewOutput returns an Output that writes to w, one write at a time. It must be
// closed.
func NewOutput(w io.Writer) *Output {
	return &Output{
		buffer: zapcore.BufferedWriteSyncer{WS: &lastWriter{w: w}, Size: outputBuffer, FlushInterval: outputFlush},
		// As slog's JSON handler writes it: time, level, message. zap would put the
		// level first, so it goes where the logger's name is.
		encoder: zapcore.NewJSONEncoder(zapcore.EncoderConfig{
			TimeKey: "time", EncodeTime: zapcore.RFC3339NanoTimeEncoder, NameKey: "level", MessageKey: "msg",
		}),
	}
}

// Write writes a whole line, and what waited before it, at once: for a
// slog.Handler. It never fails.
func (o *Output) Write(p []byte) (int, error) {
	n, err := o.buffer.Write(p)
	if err != nil {
		return n, err
	}
	return n, o.buffer.Sync()
}

// Flush writes what waits.
func (o *Output) Flush() error { return o.buffer.Sync() }

// Close writes what waits. Lines after that are written at once.
func (o *Output) Close() error {
	o.closed.Store(true)
	_, _ = o.buffer.Write(nil) // Else a line that comes later would start what nobody stops.
	if err := o.buffer.Stop(); err != nil {
		return err
	}
	return o.buffer.Sync() // Of one who came between.
}

// line writes a line of the access log.
func (o *Output) line(p *pooledLine) {
	if b, ok := p.plain.of(&p.line); ok {
		_, _ = o.buffer.Write(b) // lastWriter does not fail, so neither does this.
	} else {
		b, err := o.encoder.EncodeEntry(zapcore.Entry{Time: p.end, LoggerName: "INFO", Message: message}, p.field[:])
		if err != nil {
			return // It cannot: no field fails.
		}
		_, _ = o.buffer.Write(b.Bytes())
		b.Free()
	}
	if o.closed.Load() {
		_ = o.buffer.Sync()
	}
}

// lastWriter never fails, for the buffer would not write again after an error: a
// disk that was full for a moment must not end the log. What could not be written
// is lost, and a line that was cut off gets its end, so that the next is whole.
type lastWriter struct {
	w    io.Writer
	torn bool
}

func (l *lastWriter) Write(p []byte) (int, error) {
	if l.torn {
		if _, err := l.w.Write([]byte{'\n'}); err != nil {
			return len(p), nil //nolint:nilerr // See above.
		}
		l.torn = false
	}
	n, err := l.w.Write(p)
	l.torn = err != nil && n > 0 && p[n-1] != '\n'
	return len(p), nil
}

// Sync does nothing: a log need not be on the disk, and fsync takes its time.
func (*lastWriter) Sync() error { return nil }
