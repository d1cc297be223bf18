package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// explainedID is the request id of explained requests.
const explainedID = "explain"

// defaultKeyHeader carries API keys where the configuration names no header.
const defaultKeyHeader = "X-API-Key"

// pipe is a listener in memory, whose connections come from an address.
type pipe struct {
	*bufconn.Listener
	from net.Addr
}

func newPipe(req ExplainRequest) *pipe {
	return &pipe{Listener: bufconn.Listen(64 << 10), from: &net.TCPAddr{IP: req.From.AsSlice(), Port: 1}}
}

// Accept implements net.Listener.
func (p *pipe) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return pipeConn{c, p.from}, nil
}

type pipeConn struct {
	net.Conn
	from net.Addr
}

// RemoteAddr implements net.Conn.
func (c pipeConn) RemoteAddr() net.Addr { return c.from }

// callREST gives the request to the HTTP server, byte for byte.
func (g *Gateway) callREST(ctx context.Context, req ExplainRequest) (out ExplainedAnswer, err error) {
	raw, err := g.serving().rawRequest(req)
	if err != nil {
		return out, err
	}
	l, srv := newPipe(req), g.httpServer()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	defer func() {
		// Afterwards the exchange is over, and its log line written.
		err = errors.Join(err, srv.Shutdown(ctx))
		<-served
	}()
	conn, err := l.DialContext(ctx)
	if err != nil {
		return out, err
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = conn.Write(raw) // An answer may come before all has been read.
	}()
	defer func() {
		_ = conn.Close()
		<-written
	}()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: req.Method})
	if err != nil {
		return out, fmt.Errorf("the gateway did not answer: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	out.Status, out.Header, out.Body = resp.Status, telling(resp.Header), string(bytes.TrimSpace(body))
	out.Refused = resp.StatusCode >= http.StatusBadRequest
	return out, err
}

// rawRequest is the request as a client sends it.
func (s *snapshot) rawRequest(req ExplainRequest) ([]byte, error) {
	header, err := s.credentials(req)
	if err != nil {
		return nil, err
	}
	has := func(name string) bool {
		return slices.ContainsFunc(header, func(h Header) bool { return strings.EqualFold(h.Name, name) })
	}
	add := func(name, value string) {
		if !has(name) {
			header = append(header, Header{name, value})
		}
	}
	add("Host", "localhost")
	add("X-Request-ID", explainedID)
	add("Connection", "close")
	if req.Data != "" {
		add("Content-Type", "application/json")
		add("Content-Length", strconv.Itoa(len(req.Data)))
	}
	if strings.ContainsAny(req.Method+req.Target, " \r\n") || req.Method == "" || req.Target == "" {
		return nil, fmt.Errorf("%q %q is no request line: a method and a path without spaces", req.Method, req.Target)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", req.Method, req.Target)
	for _, h := range header {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	b.WriteString("\r\n" + req.Data)
	return b.Bytes(), nil
}

// credentials are the header lines of the request, with its credentials.
func (s *snapshot) credentials(req ExplainRequest) ([]Header, error) {
	out := slices.Clone(req.Header)
	if req.Token != "" {
		out = append(out, Header{"Authorization", "Bearer " + req.Token})
	}
	if req.APIKey != "" {
		name := s.cfg.GetAuth().GetApiKeys().GetHeader()
		if name == "" {
			name = defaultKeyHeader
		}
		out = append(out, Header{name, req.APIKey})
	}
	for _, h := range out {
		if h.Name == "" || textproto.TrimString(h.Name) != h.Name || strings.ContainsAny(h.Name+h.Value, "\r\n") || strings.Contains(h.Name, ":") {
			return nil, fmt.Errorf("%q: %q is no header line", h.Name, h.Value)
		}
	}
	return out, nil
}

// callRPC calls the gRPC server. Of a client's stream it sends one message.
func (g *Gateway) callRPC(ctx context.Context, req ExplainRequest) (out ExplainedAnswer, err error) {
	m := g.serving().catalogue.Method("/" + req.RPC)
	in, err := frame(m, req.Data)
	if err != nil {
		return out, err
	}
	header, err := g.serving().credentials(req)
	if err != nil {
		return out, err
	}
	l := newPipe(req)
	served := make(chan error, 1)
	go func() { served <- g.rpc.GRPC().Serve(l) }()
	defer func() {
		stop := context.AfterFunc(ctx, g.rpc.GRPC().Stop)
		g.rpc.GRPC().GracefulStop() // Afterwards the call is over.
		stop()
		<-served
	}()
	cc, err := grpc.NewClient("passthrough:///explain", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.Codec{})))
	if err != nil {
		return out, err
	}
	defer cc.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", explainedID)
	for _, h := range header {
		ctx = metadata.AppendToOutgoingContext(ctx, strings.ToLower(h.Name), h.Value)
	}
	md, err := exchange(ctx, cc, m, req.RPC, in)
	st := status.Convert(err)
	out.Status, out.Body, out.Header, out.Refused = codeName(st), st.Message(), telling(httpHeader(md)), err != nil
	return out, nil
}

// exchange sends one message and reads the answer to its end.
func exchange(ctx context.Context, cc *grpc.ClientConn, m *schema.Method, rpc string, in *wire.Frame) (metadata.MD, error) {
	desc := &grpc.StreamDesc{ClientStreams: m != nil && m.Descriptor.IsStreamingClient(), ServerStreams: true}
	st, err := cc.NewStream(ctx, desc, "/"+rpc)
	if err != nil {
		return nil, err
	}
	if err = st.SendMsg(in); err == nil || errors.Is(err, io.EOF) { // RecvMsg says why it ended.
		err = st.CloseSend()
	}
	for err == nil {
		err = st.RecvMsg(&wire.Frame{})
	}
	md, _ := st.Header()
	md = metadata.Join(md, st.Trailer())
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return md, err
}

// frame is a request message out of its JSON form.
func frame(m *schema.Method, data string) (*wire.Frame, error) {
	if m == nil || data == "" { // The server says that there is no such method.
		return &wire.Frame{}, nil
	}
	b, err := m.Input.AppendWire(nil, []byte(data))
	if err != nil {
		return nil, fmt.Errorf("the data is no %s: %w", m.Descriptor.Input().FullName(), err)
	}
	return &wire.Frame{Data: b}, nil
}

func httpHeader(md metadata.MD) http.Header {
	h := http.Header{}
	for k, vs := range md {
		for _, v := range vs {
			h.Add(k, v)
		}
	}
	return h
}

// telling picks the header lines that say something about the decision, in a
// fixed order.
func telling(h http.Header) (out []Header) {
	for _, name := range []string{"Allow", "WWW-Authenticate", "Retry-After", "RateLimit-Policy", "RateLimit"} {
		for _, v := range h.Values(name) {
			out = append(out, Header{name, v})
		}
	}
	return out
}
