package gatewaytest

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/rest"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// TestService registers sluice.test.v1 with a gateway; srv nil means a new
// Server. Embedded it has no interceptors of its own, so what it does (panic,
// bare errors) reaches the connection as it is.
func TestService(srv testv1.TestServiceServer) gateway.Service {
	if srv == nil {
		srv = &Server{}
	}
	return gateway.Service{
		Descriptor: testv1.File_sluice_test_v1_test_proto.Services().ByName("TestService"),
		Handlers:   rest.Handlers(testv1.RegisterTestServiceHandlerClient, testv1.NewTestServiceClient),
		Embed: func(context.Context, gateway.Embedding) (upstream.Host, error) {
			return upstream.Host{Name: "test", Register: func(r grpc.ServiceRegistrar) { testv1.RegisterTestServiceServer(r, srv) }}, nil
		},
	}
}

// Server is the backend of sluice.test.v1: it does what requests ask for.
type Server struct {
	testv1.UnimplementedTestServiceServer
	// Ended, when not nil, receives why a call ended that waited, or could not
	// send.
	Ended chan error
}

// Echo answers the request with what reached the service beside it.
func (s *Server) Echo(ctx context.Context, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	if r.GetPanic() {
		panic("asked to")
	}
	if err := s.wait(ctx, r.GetDelay()); err != nil {
		return nil, err
	}
	if r.GetBareError() {
		return nil, errors.New("pq: password is hunter2")
	}
	if c := codes.Code(uint32(r.GetFailCode())); c != codes.OK { //nolint:gosec // 0 to 16, by the proto's rule
		return nil, status.Error(c, r.GetFailMessage())
	}
	out := &testv1.EchoResponse{Id: r.GetId(), Kinds: r.GetKinds(), Inner: r.GetInner(), DeadlineMs: -1,
		Padding: strings.Repeat("x", int(r.GetPadding())), Metadata: map[string]string{}}
	if d, ok := ctx.Deadline(); ok {
		out.DeadlineMs = time.Until(d).Milliseconds()
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for k, v := range md {
		out.Metadata[k] = strings.Join(v, ",")
	}
	out.Subject, out.Scopes = asserted(md)
	return out, nil
}

// ListTenantThings answers whose things were asked for.
func (s *Server) ListTenantThings(_ context.Context, r *testv1.ListTenantThingsRequest) (*testv1.EchoResponse, error) {
	return &testv1.EchoResponse{Name: r.GetTenantId()}, nil
}

// asserted reads the assertion without verifying it: that is services/kit's to
// do, and to test.
func asserted(md metadata.MD) (string, []string) {
	if len(md[upstream.MetadataAssertion]) != 1 {
		return "", nil
	}
	var claims struct {
		jwt.RegisteredClaims
		Scope string `json:"scope"`
	}
	if _, _, err := jwt.NewParser().ParseUnverified(md[upstream.MetadataAssertion][0], &claims); err != nil {
		return "", nil
	}
	return claims.Subject, strings.Fields(claims.Scope)
}

func (s *Server) wait(ctx context.Context, d *durationpb.Duration) error {
	if d.AsDuration() <= 0 {
		return nil
	}
	select {
	case <-time.After(d.AsDuration()):
		return nil
	case <-ctx.Done():
		s.ended(ctx.Err())
		return ctx.Err()
	}
}

func (s *Server) ended(err error) {
	if s.Ended != nil {
		s.Ended <- err
	}
}

// ListNames answers names n0, n1, …
func (s *Server) ListNames(_ context.Context, r *testv1.ListNamesRequest) (*testv1.ListNamesResponse, error) {
	out := &testv1.ListNamesResponse{Hidden: "secret"}
	for i := range r.GetCount() {
		out.Names = append(out.Names, "n"+string(rune('0'+i%10)))
	}
	return out, nil
}

// GetNamed answers the name.
func (s *Server) GetNamed(_ context.Context, r *testv1.GetNamedRequest) (*testv1.EchoResponse, error) {
	return &testv1.EchoResponse{Name: r.GetName()}, nil
}

// Down streams.
func (s *Server) Down(r *testv1.DownRequest, st grpc.ServerStreamingServer[testv1.EchoResponse]) error {
	for i := range r.GetCount() {
		if i > 0 {
			if err := s.wait(st.Context(), r.GetGap()); err != nil {
				return err
			}
		}
		if err := st.Send(&testv1.EchoResponse{Index: i, Padding: strings.Repeat("x", int(r.GetPadding()))}); err != nil {
			s.ended(err)
			return err
		}
	}
	return s.end(r)
}

// Up counts.
func (s *Server) Up(st grpc.ClientStreamingServer[testv1.EchoRequest, testv1.EchoResponse]) error {
	n := int32(0)
	for {
		_, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return st.SendAndClose(&testv1.EchoResponse{Index: n})
		}
		if err != nil {
			return err
		}
		n++
	}
}

// Chat answers each message with one.
func (s *Server) Chat(st grpc.BidiStreamingServer[testv1.EchoRequest, testv1.EchoResponse]) error {
	if err := st.SendHeader(nil); err != nil {
		return err
	}
	for i := int32(0); ; i++ {
		m, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := st.Send(&testv1.EchoResponse{Id: m.GetId(), Index: i}); err != nil {
			return err
		}
	}
}

// Download streams bytes. Only the first message has the content type that counts.
func (s *Server) Download(r *testv1.DownRequest, st grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	contentType := "text/plain"
	for i := range r.GetCount() {
		if i > 0 {
			contentType = "image/png"
			if err := s.wait(st.Context(), r.GetGap()); err != nil {
				return err
			}
		}
		if err := st.Send(&httpbody.HttpBody{ContentType: contentType, Data: []byte(strings.Repeat("d", int(r.GetPadding())))}); err != nil {
			return err
		}
	}
	return s.end(r)
}

// end is how a stream ends.
func (s *Server) end(r *testv1.DownRequest) error {
	if r.GetPanic() {
		panic("asked to")
	}
	if c := codes.Code(uint32(r.GetFailCode())); c != codes.OK { //nolint:gosec // 0 to 16, by the proto's rule
		return status.Error(c, "asked to fail")
	}
	return nil
}

// Nothing answers nothing.
func (s *Server) Nothing(context.Context, *testv1.NothingRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}
