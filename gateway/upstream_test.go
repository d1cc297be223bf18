package gateway_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// at is a gateway whose test service is at addr.
func at(t *testing.T, addr string) *gatewaytest.Gateway {
	t.Helper()
	return gatewaytest.Start(t, func(c *configv1.Config) { c.Upstreams = upstreams(addr) }, gateway.WithServices(gatewaytest.TestService(nil)))
}

func getEcho(t *testing.T, g *gatewaytest.Gateway) (*http.Response, string) {
	t.Helper()
	return do(t, g, g.Token(t, "ada", ""), exchange{method: "GET", path: "/test/v1/echo/x"})
}

// TestUnreachable: a service that is not there is UNAVAILABLE at once, and used
// again soon after it is back.
func TestUnreachable(t *testing.T) {
	register := func(r grpc.ServiceRegistrar) { testv1.RegisterTestServiceServer(r, &gatewaytest.Server{}) }
	addr, kill := gatewaytest.Serve(t, register)
	g := at(t, addr)
	if res, body := getEcho(t, g); res.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	kill()
	// DEADLINE_EXCEEDED would show that a call waited for the service.
	res, body := getEcho(t, g)
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") != "1" || strings.Contains(body, addr) {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
	}
	_, err := testv1.NewTestServiceClient(g.Conn).Echo(g.As(t, "ada", ""), &testv1.EchoRequest{})
	wantCode(t, err, codes.Unavailable, "the service is unavailable, try again")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	register(srv)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	eventually(t, "the service is used again", func() bool {
		res, _ := getEcho(t, g)
		return res.StatusCode == http.StatusOK
	})
}

// frame is a length-prefixed message, as gRPC writes it.
func frame(flag byte, length uint32, data string) string {
	return string(binary.BigEndian.AppendUint32([]byte{flag}, length)) + data
}

// h2c is an HTTP/2 server without TLS.
func h2c(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// grpcish answers with gRPC's content type, a body, and trailers if any.
func grpcish(body string, trailers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		_, _ = w.Write([]byte(body))
		for i := 0; i < len(trailers); i += 2 {
			w.Header().Set(http.TrailerPrefix+trailers[i], trailers[i+1])
		}
	}
}

func answers(code int, contentType string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{contentType}
		if contentType == "" {
			w.Header()["Content-Type"] = nil
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte("<html>10.0.0.7</html>"))
	}
}

// TestNonsense produces every answer that is none of gRPC's: 502 over REST,
// with a reason, and INTERNAL over gRPC. The proxies before a service that say
// it is away are believed.
func TestNonsense(t *testing.T) {
	const bad, away = http.StatusBadGateway, http.StatusServiceUnavailable
	http1 := httptest.NewServer(answers(200, "text/html"))
	t.Cleanup(http1.Close)
	for name, tc := range map[string]struct {
		addr string
		want int
		grpc codes.Code // OK means INTERNAL
		raw  bool       // over gRPC the bytes go to the caller, whose they are to judge
	}{
		"an HTTP/1 server":          {addr: http1.Listener.Addr().String(), want: bad},
		"an HTTP/2 server":          {addr: h2c(t, answers(200, "text/html")), want: bad},
		"without a content type":    {addr: h2c(t, answers(200, "")), want: bad},
		"HTTP 400":                  {addr: h2c(t, answers(400, "text/plain")), want: bad},
		"HTTP 401":                  {addr: h2c(t, answers(401, "text/plain")), want: bad},
		"HTTP 403":                  {addr: h2c(t, answers(403, "text/plain")), want: bad},
		"HTTP 404":                  {addr: h2c(t, answers(404, "text/plain")), want: bad},
		"HTTP 418":                  {addr: h2c(t, answers(418, "text/plain")), want: bad},
		"HTTP 500":                  {addr: h2c(t, answers(500, "text/plain")), want: bad},
		"a proxy's 502":             {addr: h2c(t, answers(502, "text/html")), want: away, grpc: codes.Unavailable},
		"a proxy's 503":             {addr: h2c(t, answers(503, "text/html")), want: away, grpc: codes.Unavailable},
		"garbage for a message":     {addr: h2c(t, grpcish(frame(0, 3, "\xff\xff\xff"), "Grpc-Status", "0")), want: bad, raw: true},
		"a frame of no kind":        {addr: h2c(t, grpcish(frame(9, 1, "x"), "Grpc-Status", "0")), want: bad},
		"a frame that is too large": {addr: h2c(t, grpcish(frame(0, 17<<20, "x"), "Grpc-Status", "0")), want: bad},
		"no message":                {addr: h2c(t, grpcish("", "Grpc-Status", "0")), want: bad},
		"no trailers":               {addr: h2c(t, grpcish(frame(0, 0, ""))), want: bad},
	} {
		t.Run(name, func(t *testing.T) {
			g := at(t, tc.addr)
			res, body := getEcho(t, g)
			if res.StatusCode != tc.want || strings.Contains(body, "BAD_UPSTREAM_RESPONSE") != (tc.want == bad) || strings.Contains(body, "10.0.0.7") || strings.Contains(body, tc.addr) {
				t.Errorf("REST: %d %s", res.StatusCode, body)
			}
			out := &wire.Frame{}
			err := rawConn(t, g).Invoke(g.As(t, "ada", ""), "/"+testService+"/Echo", &wire.Frame{}, out)
			switch {
			case tc.raw:
				if err != nil || string(out.Data) != "\xff\xff\xff" {
					t.Errorf("gRPC: %q, %v", out.Data, err)
				}
			case tc.grpc != codes.OK:
				wantCode(t, err, tc.grpc, "")
			default:
				wantCode(t, err, codes.Internal, "the service sent an answer that the gateway cannot read")
			}
		})
	}
}

// TestSilentUpstream: one that accepts and never answers is too late.
func TestSilentUpstream(t *testing.T) {
	g := gatewaytest.Start(t, func(c *configv1.Config) {
		c.Upstreams = upstreams(h2c(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		override(c, "Echo", &configv1.MethodOverride{Deadline: seconds(0.2)})
	}, gateway.WithServices(gatewaytest.TestService(nil)))
	if res, body := getEcho(t, g); res.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// failing fails with whatever it was given.
type failing struct {
	gatewaytest.Server
	err error
}

func (f *failing) Echo(context.Context, *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	return &testv1.EchoResponse{}, f.err
}

// odd is an error with a status that is none.
type odd struct{ st *status.Status }

func (o odd) Error() string              { return "hunter2" }
func (o odd) GRPCStatus() *status.Status { return o.st }

// TestStatusDetails: what is meant for callers reaches them, on both edges,
// and what is not does not.
func TestStatusDetails(t *testing.T) {
	t.Parallel()
	with := func(c codes.Code, d ...protoadapt.MessageV1) error {
		st, err := status.New(c, "as it is").WithDetails(d...)
		if err != nil {
			t.Fatal(err)
		}
		return st.Err()
	}
	debug := &errdetails.DebugInfo{Detail: "hunter2"}
	badField := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "id", Description: "must be nice"}}}
	retry := &errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)}
	for name, tc := range map[string]struct {
		err     error
		code    codes.Code
		details int // over gRPC
		shows   string
		header  string // Retry-After
	}{
		"a bad field":                {with(codes.InvalidArgument, badField, debug), codes.InvalidArgument, 1, `"errors":[{"field":"id","reason":"must be nice"}]`, ""},
		"only debugging":             {with(codes.NotFound, debug), codes.NotFound, 0, "as it is", ""},
		"a type of the service's":    {with(codes.NotFound, &testv1.EchoRequest{Id: "hunter2"}), codes.NotFound, 0, "as it is", ""},
		"away, with a time":          {with(codes.Unavailable, retry, debug, badField), codes.Unavailable, 1, "try again", "7"},
		"exhausted, with a time":     {with(codes.ResourceExhausted, retry), codes.ResourceExhausted, 1, "as it is", "7"},
		"internal, with everything":  {with(codes.Internal, retry, debug, badField), codes.Internal, 0, "internal error", ""},
		"wrapped":                    {fmt.Errorf("hunter2: %w", with(codes.Aborted)), codes.Aborted, 0, "as it is", ""},
		"a bare deadline":            {fmt.Errorf("hunter2: %w", context.DeadlineExceeded), codes.DeadlineExceeded, 0, "did not answer in time", ""},
		"an error whose status is 0": {odd{status.New(codes.OK, "")}, codes.Internal, 0, "internal error", ""},
		"an error whose status is -": {odd{nil}, codes.Internal, 0, "internal error", ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := gatewaytest.Start(t, nil, gateway.WithServices(gatewaytest.TestService(&failing{err: tc.err})))
			res, body := getEcho(t, g)
			if !strings.Contains(body, tc.shows) || strings.Contains(body, "hunter2") || res.StatusCode < 400 || res.Header.Get("Retry-After") != tc.header {
				t.Errorf("REST: %d %v %s", res.StatusCode, res.Header, body)
			}
			_, err := testv1.NewTestServiceClient(g.Conn).Echo(g.As(t, "ada", ""), &testv1.EchoRequest{})
			st := status.Convert(err)
			if st.Code() != tc.code || len(st.Details()) != tc.details || strings.Contains(st.String(), "hunter2") {
				t.Errorf("gRPC: %v %v", err, st.Details())
			}
		})
	}
}
