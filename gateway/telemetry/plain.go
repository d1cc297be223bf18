package telemetry

import (
	"strconv"
	"time"
)

// plainLine writes a line as zap's encoder does, as long as no text in it needs
// escaping: then it is odd, and zap's to write. Nearly all lines are plain. What
// decides is one look at each byte of each value, so no text that a caller chose
// gets past it. Keys are this package's own.
type plainLine struct {
	b   []byte
	odd bool
}

// of returns the line with its end, until the next call; ok is false when it is odd.
func (p *plainLine) of(l *line) (b []byte, ok bool) {
	p.b, p.odd = append(p.b[:0], `{"time":"`...), false
	p.b = l.end.AppendFormat(p.b, time.RFC3339Nano)
	p.b = append(p.b, `","level":"INFO","msg":"`+message+`"`...)
	l.fields(p)
	p.b = append(p.b, "}\n"...)
	return p.b, !p.odd
}

func (p *plainLine) key(key string) {
	p.b = append(p.b, ',', '"')
	p.b = append(p.b, key...)
	p.b = append(p.b, '"', ':')
}

func (p *plainLine) AddString(key, value string) {
	p.key(key)
	p.odd = p.odd || !plainText(value)
	p.b = append(p.b, '"')
	p.b = append(p.b, value...)
	p.b = append(p.b, '"')
}

func (p *plainLine) AddByteString(key string, value []byte) {
	p.key(key)
	p.odd = p.odd || !plainText(value)
	p.b = append(p.b, '"')
	p.b = append(p.b, value...)
	p.b = append(p.b, '"')
}

func (p *plainLine) AddInt64(key string, value int64) {
	p.key(key)
	p.b = strconv.AppendInt(p.b, value, 10)
}

// AddFloat64 adds a number that is finite.
func (p *plainLine) AddFloat64(key string, value float64) {
	p.key(key)
	p.b = strconv.AppendFloat(p.b, value, 'f', -1, 64)
}

// plainText says whether JSON may hold the text as it is: printable ASCII without
// quotes and backslashes.
func plainText[T string | []byte](text T) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
