package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Request is an HTTP/1.1 request, written out once, and the status that it must
// be answered with.
type Request struct {
	Wire   []byte
	Status int
}

// NewRequest writes a request. An empty token sends none; contentType goes with
// a body.
func NewRequest(method, host, target, token, contentType string, body []byte, status int) Request {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, target, host)
	if token != "" {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", token)
	}
	if body != nil {
		fmt.Fprintf(&b, "Content-Type: %s\r\nContent-Length: %d\r\n", contentType, len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	return Request{Wire: b.Bytes(), Status: status}
}

// HTTP is one connection that sends requests in turn. net/http's client costs
// more than some gateways do, and on a small machine takes from them what is to
// be measured: this one writes ready bytes and throws answers away.
type HTTP struct {
	addr     string
	requests []Request
	conn     net.Conn
	in       *bufio.Reader
	closed   bool // by the server, after the last answer
}

// DialHTTP connects. Call n sends requests[n % len].
func DialHTTP(ctx context.Context, addr string, requests []Request) (*HTTP, error) {
	h := &HTTP{addr: addr, requests: requests, in: bufio.NewReaderSize(nil, 64<<10)}
	return h, h.dial(ctx)
}

func (h *HTTP) dial(ctx context.Context) error {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", h.addr)
	if err != nil {
		return err
	}
	h.conn, h.closed = conn, false
	h.in.Reset(conn)
	return nil
}

// Call sends request n and reads its answer; any status but the request's is an
// error. A connection that the server has closed after its last answer is made
// anew.
func (h *HTTP) Call(ctx context.Context, n int) error {
	if h.closed {
		_ = h.conn.Close() // the server already has
		if err := h.dial(ctx); err != nil {
			return err
		}
	}
	r := &h.requests[n%len(h.requests)]
	if _, err := h.conn.Write(r.Wire); err != nil {
		return err
	}
	var complaint prefix
	a, err := readAnswer(h.in, func(status int) *prefix {
		if status == r.Status {
			return nil
		}
		return &complaint
	})
	if err != nil {
		return err
	}
	h.closed = a.close
	if a.status != r.Status {
		return fmt.Errorf("answered %d, want %d: %s", a.status, r.Status, complaint.b)
	}
	return nil
}

// Interrupt ends a call in flight.
func (h *HTTP) Interrupt() { _ = h.conn.SetDeadline(time.Unix(1, 0)) } // fails on a closed connection only

// Close ends the connection.
func (h *HTTP) Close() error { return h.conn.Close() }

// answer is what is kept of an HTTP answer.
type answer struct {
	status int
	size   int64 // of the body
	close  bool  // the connection ends with it
}

// prefix keeps the first KiB that is written to it.
type prefix struct{ b []byte }

func (p *prefix) add(b []byte) {
	p.b = append(p.b, b[:min(len(b), 1024-len(p.b))]...)
}

var errHTTP = errors.New("not an HTTP/1.1 answer")

// readAnswer reads one answer to a GET or POST (RFC 9112), and of its body what
// keep asks for once the status is known. Interim answers are passed over. It is
// stricter than a browser: what a Go server never sends is an error.
func readAnswer(in *bufio.Reader, keep func(status int) *prefix) (answer, error) {
	for {
		a, length, err := readHead(in)
		if err != nil {
			return a, err
		}
		if a.status/100 == 1 {
			if a.status == 101 || length != none { // No other protocol was asked for.
				return a, errHTTP
			}
			continue
		}
		a.size, err = readBody(in, length, keep(a.status))
		a.close = a.close || length == untilClose
		return a, err
	}
}

// Lengths of a body that no number says.
const (
	chunked    = -1
	untilClose = -2
	none       = -3
)

func readHead(in *bufio.Reader) (a answer, length int64, err error) {
	line, err := readLine(in)
	if err != nil {
		return a, 0, err
	}
	rest, ok := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	if !ok || len(rest) < 3 || len(rest) > 3 && rest[3] != ' ' {
		return a, 0, fmt.Errorf("%w: %q", errHTTP, line)
	}
	status, err := strconv.ParseUint(string(rest[:3]), 10, 16)
	if err != nil || status < 100 {
		return a, 0, fmt.Errorf("%w: %q", errHTTP, line)
	}
	a.status, length = int(status), untilClose
	for {
		if line, err = readLine(in); err != nil {
			return a, 0, err
		}
		if len(line) == 0 {
			break
		}
		if err = a.field(line, &length); err != nil {
			return a, 0, err
		}
	}
	if a.status/100 == 1 || a.status == 204 || a.status == 304 {
		if length >= chunked && length != 0 { // What these must not have.
			return a, 0, errHTTP
		}
		length = none
	}
	return a, length, nil
}

// field reads one header line.
func (a *answer) field(line []byte, length *int64) error {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || len(name) == 0 || bytes.ContainsAny(name, " \t") {
		return fmt.Errorf("%w: header %q", errHTTP, line)
	}
	value = bytes.Trim(value, " \t")
	switch {
	case equalFold(name, "Content-Length"):
		n, err := strconv.ParseUint(string(value), 10, 62)
		if err != nil || *length != untilClose || value[0] == '+' {
			return fmt.Errorf("%w: header %q", errHTTP, line)
		}
		*length = int64(n) //nolint:gosec // of 62 bits
	case equalFold(name, "Transfer-Encoding"):
		if *length != untilClose || !equalFold(value, "chunked") {
			return fmt.Errorf("%w: header %q", errHTTP, line)
		}
		*length = chunked
	case equalFold(name, "Connection"):
		for token := range bytes.SplitSeq(value, []byte(",")) {
			a.close = a.close || equalFold(bytes.Trim(token, " \t"), "close")
		}
	}
	return nil
}

func equalFold(b []byte, s string) bool { return len(b) == len(s) && strings.EqualFold(string(b), s) }

// readLine reads a line without its end. It is good until the next read.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return nil, unexpected(err)
	}
	line, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok || bytes.IndexByte(line, '\r') >= 0 {
		return nil, fmt.Errorf("%w: line %q", errHTTP, line)
	}
	return line, nil
}

func readBody(in *bufio.Reader, length int64, keep *prefix) (int64, error) {
	switch length {
	case none:
		return 0, nil
	case chunked:
		return readChunks(in, keep)
	case untilClose:
		n, err := skip(in, 1<<62, keep)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return n, err
	}
	n, err := skip(in, length, keep)
	return n, unexpected(err)
}

// readChunks reads a chunked body with its trailer (RFC 9112, 7.1).
func readChunks(in *bufio.Reader, keep *prefix) (total int64, err error) {
	for {
		line, err := readLine(in)
		if err != nil {
			return total, err
		}
		if len(line) == 0 || len(line) > 15 {
			return total, fmt.Errorf("%w: chunk size %q", errHTTP, line)
		}
		size, err := strconv.ParseUint(string(line), 16, 60) // No extensions: nobody sends any.
		if err != nil {
			return total, fmt.Errorf("%w: chunk size %q", errHTTP, line)
		}
		if size == 0 {
			return total, readTrailer(in)
		}
		n, err := skip(in, int64(size), keep) //nolint:gosec // of 60 bits
		total += n
		if err != nil {
			return total, unexpected(err)
		}
		if line, err = readLine(in); err != nil || len(line) != 0 {
			return total, errors.Join(errHTTP, err)
		}
	}
}

func readTrailer(in *bufio.Reader) error {
	for {
		line, err := readLine(in)
		if err != nil || len(line) == 0 {
			return err
		}
		if bytes.IndexByte(line, ':') <= 0 {
			return fmt.Errorf("%w: trailer %q", errHTTP, line)
		}
	}
}

// skip reads n bytes, in pieces as they lie in the buffer.
func skip(in *bufio.Reader, n int64, keep *prefix) (read int64, err error) {
	for read < n {
		if _, err = in.Peek(1); err != nil {
			return read, err
		}
		piece, _ := in.Peek(int(min(int64(in.Buffered()), n-read))) // They are there.
		if keep != nil {
			keep.add(piece)
		}
		k, _ := in.Discard(len(piece)) // They are there.
		read += int64(k)
	}
	return read, nil
}

// unexpected makes an end in the middle an error that says so.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
