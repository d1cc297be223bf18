package gateway_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/upstream"
)

// composite is a service whose Echo calls Nothing as a branch, for the owner
// that the request's id names, and Echo again when the branch is to nest.
type composite struct {
	gatewaytest.Server
	branches grpc.ClientConnInterface
}

func (c *composite) Echo(ctx context.Context, r *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	client := testv1.NewTestServiceClient(c.branches)
	if r.GetPadding() > 0 {
		return client.Echo(ctx, &testv1.EchoRequest{Id: r.GetId(), Padding: r.GetPadding() - 1})
	}
	_, err := client.Nothing(ctx, &testv1.NothingRequest{Inner: &testv1.Inner{Owner: r.GetId()}})
	return &testv1.EchoResponse{Id: r.GetId()}, err
}

// TestCompositeReadsAsItsCaller: a caller who may call a composite, but not
// what it calls, gets what it would get by itself; over both edges, and
// through composites of composites.
func TestCompositeReadsAsItsCaller(t *testing.T) {
	c := &composite{}
	service := gatewaytest.TestService(c)
	service.Embed = func(_ context.Context, e gateway.Embedding) (upstream.Host, error) {
		c.branches = e.Branches
		return upstream.Host{Name: "composite", Logger: e.Logger, Register: func(r grpc.ServiceRegistrar) { testv1.RegisterTestServiceServer(r, c) }}, nil
	}
	g := gatewaytest.Start(t, nil, gateway.WithServices(service))
	client := testv1.NewTestServiceClient(g.Conn)
	for name, tc := range map[string]struct {
		scopes, owner string
		nested        int32
		want          codes.Code
		text          string
	}{
		"with the scope":              {"test.write", "ada", 0, codes.OK, ""},
		"without the scope":           {"", "ada", 0, codes.PermissionDenied, "lacks the scope test.write"},
		"for another":                 {"test.write", "bob", 0, codes.PermissionDenied, "its own"},
		"nested, with the scope":      {"test.write", "ada", 3, codes.OK, ""},
		"nested, without the scope":   {"", "ada", 3, codes.PermissionDenied, "lacks the scope test.write"},
		"nested, for another":         {"test.write", "bob", 3, codes.PermissionDenied, "its own"},
		"an admin, for whom one will": {"admin", "bob", 1, codes.OK, ""},
	} {
		_, err := client.Echo(g.As(t, "ada", tc.scopes), &testv1.EchoRequest{Id: tc.owner, Padding: tc.nested})
		if err != nil || tc.want != codes.OK {
			wantCode(t, err, tc.want, tc.text)
		}
		path := "/test/v1/echo/" + tc.owner
		if tc.nested > 0 {
			path += "?padding=3"
		}
		res, body := do(t, g, g.Token(t, "ada", tc.scopes), exchange{method: "GET", path: path})
		if (res.StatusCode == 200) != (tc.want == codes.OK) || (tc.want != codes.OK && res.StatusCode != 403) {
			t.Errorf("%s over REST: %d %s", name, res.StatusCode, body)
		}
	}
}
