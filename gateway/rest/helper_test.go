package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/listen"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/schema"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// fakeConn answers Echo with what it was sent, and remembers what reached it.
type fakeConn struct {
	mu       sync.Mutex
	calls    []string
	requests []proto.Message
	metadata []metadata.MD
	// download is what Download answers with.
	download *httpbody.HttpBody
}

func (f *fakeConn) Call(ctx context.Context, call *policy.Call, request *wire.Frame, a *upstream.Answer) error {
	in := messageOf(call.Method.Descriptor.Input())
	if err := proto.Unmarshal(request.Data, in); err != nil {
		return err
	}
	f.note(ctx, call.Method.FullName, in)
	switch in := in.(type) {
	case *testv1.EchoRequest:
		return wire.Cloner{}.Copy(&a.Message, &testv1.EchoResponse{Id: in.GetId(), Inner: in.GetInner(), Kinds: in.GetKinds()})
	case *testv1.ListNamesRequest:
		return wire.Cloner{}.Copy(&a.Message, &testv1.ListNamesResponse{Names: []string{"n0"}})
	}
	return nil
}

// messageOf is an empty message of the linked type.
func messageOf(md protoreflect.MessageDescriptor) proto.Message {
	t, err := protoregistry.GlobalTypes.FindMessageByName(md.FullName())
	if err != nil {
		panic(err)
	}
	return t.New().Interface()
}

func (f *fakeConn) Stream(ctx context.Context, call *policy.Call) (upstream.Stream, error) {
	f.note(ctx, call.Method.FullName, nil)
	return &fakeStream{ctx: ctx, conn: f, raw: call.Method.FullName == testv1.TestService_Download_FullMethodName}, nil
}

func (f *fakeConn) note(ctx context.Context, method string, in proto.Message) {
	md, _ := metadata.FromOutgoingContext(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, method)
	f.metadata = append(f.metadata, md)
	if in != nil {
		f.requests = append(f.requests, in)
	}
}

func (f *fakeConn) called() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.calls)
}

// fakeStream takes what it is sent, and answers once: with the number of
// messages, or with the chunk of a download.
type fakeStream struct {
	ctx      context.Context
	conn     *fakeConn
	raw      bool
	sent     int
	answered bool
}

func (s *fakeStream) Context() context.Context     { return s.ctx }
func (s *fakeStream) Header() (metadata.MD, error) { return nil, s.ctx.Err() }
func (s *fakeStream) Trailer() metadata.MD         { return nil }
func (s *fakeStream) CloseSend() error             { return nil }

func (s *fakeStream) Send(*wire.Frame) error {
	s.sent++
	return context.Cause(s.ctx)
}

func (s *fakeStream) Receive(m *wire.Frame) error {
	if err := context.Cause(s.ctx); err != nil {
		return err
	}
	if s.answered {
		return io.EOF
	}
	s.answered = true
	if s.raw {
		return wire.Cloner{}.Copy(m, s.conn.download)
	}
	return wire.Cloner{}.Copy(m, &testv1.EchoResponse{Index: int32(s.sent)})
}

// edgeOptions are those of an HTTP edge that serves the test service.
type edgeOptions struct {
	httpedge.Options
	Catalogue    *schema.Catalogue
	Services     []Service
	Conn         upstream.Sender
	MaxJSONDepth int
	Compression  httpedge.CompressionOptions
	Mounts       httpedge.Mounts
}

// edge is an HTTP edge over a fakeConn, with what it saw.
type edge struct {
	*httpedge.Server
	rest *Server
	conn *fakeConn
	log  *syncBuffer
	mu   sync.Mutex
	hits []string
}

// refused returns the names of the limits that refused something, in order.
func (e *edge) refused() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.hits)
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func testTable(t testing.TB) *schema.Catalogue {
	t.Helper()
	sd := testv1.File_sluice_test_v1_test_proto.Services().ByName("TestService")
	table, err := schema.New([]protoreflect.ServiceDescriptor{sd}, schema.Options{Defaults: policy.Defaults{Deadline: time.Second, StreamIdle: time.Minute, StreamMaxAge: time.Minute, MaxRequestBytes: 1 << 16}, Linked: protoregistry.GlobalTypes})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// newEdge builds a Server of the test service that admits everyone.
func newEdge(t testing.TB, change func(*edgeOptions)) *edge {
	t.Helper()
	e := &edge{conn: &fakeConn{download: &httpbody.HttpBody{ContentType: "text/plain", Data: []byte("d")}}, log: &syncBuffer{}}
	log := slog.New(slog.NewJSONHandler(e.log, nil))
	o := edgeOptions{
		Options: httpedge.Options{Logger: log, Telemetry: telemetry.New(telemetry.Options{
			Access: log, Metrics: telemetry.NewMetrics(), Tracer: noop.NewTracerProvider().Tracer(""),
		})},
		Catalogue: testTable(t),
		Services:  []Service{{Name: "sluice.test.v1.TestService", Register: Handlers(testv1.RegisterTestServiceHandlerClient, testv1.NewTestServiceClient)}},
		Conn:      e.conn,
	}
	if change != nil {
		change(&o)
	}
	o.Refused = func(limit string) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.hits = append(e.hits, limit)
	}
	var err error
	if e.rest, e.Server, err = newServers(&o); err != nil {
		t.Fatal(err)
	}
	return e
}

// asking is an exchange that a binding has taken, as far as reading needs one.
func asking(b *Binding, r *http.Request) *exchange {
	return &exchange{Exchange: &httpedge.Exchange{Request: r}, binding: b, asked: asked{params: map[string]string{"id": "e1"}}}
}

// newServers are the edge and the routes that it serves.
func newServers(o *edgeOptions) (*Server, *httpedge.Server, error) {
	packs, err := httpedge.NewCompressor(o.Compression)
	if err != nil {
		return nil, nil, err
	}
	s, err := New(Options{Catalogue: o.Catalogue, Services: o.Services, Conn: o.Conn, Telemetry: o.Telemetry, Logger: o.Logger,
		MaxJSONDepth: o.MaxJSONDepth, Compressor: packs, APIKeyHeader: o.APIKeyHeader})
	if err != nil {
		return nil, nil, err
	}
	at := o.Options
	at.Protocols, at.ExposedHeaders = append(at.Protocols, o.Mounts, s), s.PassedHeaders()
	at.Methods = s.Verbs()
	h, err := httpedge.New(at)
	return s, h, err
}

// answer is what a test looks at of an answer.
type answer struct {
	status int
	header http.Header
	body   string
	// reason is that of the problem, "" where there is none.
	reason string
}

func readAnswer(t testing.TB, res *http.Response) answer {
	t.Helper()
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, body: string(b)}
	if res.StatusCode >= 400 && res.Request.Method != http.MethodHead {
		var p httpedge.Problem
		if err := json.Unmarshal(b, &p); err != nil || p.Status != a.status || p.Code == "" || p.RequestID != res.Header.Get("X-Request-Id") || res.Header.Get("Content-Type") != httpedge.ProblemType {
			t.Errorf("no problem+json (%v): %v %s", err, res.Header, b)
		}
		for _, d := range p.Details {
			var info struct{ Reason, Domain string }
			if json.Unmarshal(d, &info) == nil && info.Domain == policy.ErrorDomain {
				a.reason = info.Reason
			}
		}
	}
	return a
}

// do sends a request straight into the edge.
func (e *edge) do(t testing.TB, r *http.Request) answer {
	t.Helper()
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	res := w.Result()
	res.Request = r
	return readAnswer(t, res)
}

// serve starts a server with real sockets, HTTP/1 and HTTP/2 in plain text.
func (e *edge) serve(t testing.TB) (addr string) {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	settled := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		listen.Settle(w, r)
		e.ServeHTTP(w, r)
	})
	srv := &httptest.Server{Config: &http.Server{Handler: settled, Protocols: protocols, DisableGeneralOptionsHandler: true, MaxHeaderBytes: 64 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return listen.ConnContext(httpedge.ConnContext(ctx, c), c)
		},
		ErrorLog: slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), 0)}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv.Listener = listen.HTTP(listen.Wrap(l, listen.Options{}), listen.HTTPOptions{})
	srv.Start()
	t.Cleanup(srv.Close)
	return l.Addr().String()
}
