package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	bffv1 "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/shop"
)

// TestStreamEndsWithItsCredential: a stream does not outlive the token that it
// was opened with, on either edge, however long it may get by its rule.
func TestStreamEndsWithItsCredential(t *testing.T) {
	everyPlace(t, nil, func(c *configv1.Config) {
		override(c, "Down", &configv1.MethodOverride{StreamIdle: seconds(60), StreamMaxAge: seconds(60)})
	}, func(t *testing.T, g *gatewaytest.Gateway) {
		token, err := g.DevKey().Mint("ada", nil, 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token), 30*time.Second)
		defer cancel()
		st, err := testv1.NewTestServiceClient(g.Conn).Down(ctx, &testv1.DownRequest{Count: 1000, Gap: seconds(0.1)})
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.URL+"/test/v1/down?count=1000&gap=0.1s", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		bytes := download(ctx, t, g, token)
		got := 0
		for err == nil {
			if _, err = st.Recv(); err == nil {
				got++
			}
		}
		if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "expired") || got == 0 {
			t.Errorf("gRPC: %d messages, then %v", got, err)
		}
		last := ""
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			last = lines.Text()
		}
		if !strings.Contains(last, "TOKEN_EXPIRED") {
			t.Errorf("REST ended with %q", last)
		}
		if err := bytes(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a stream of bytes looks complete: %v", err)
		}
	})
}

// download begins a stream of bytes; the function reads it to its end.
func download(ctx context.Context, t *testing.T, g *gatewaytest.Gateway, token string) func() error {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.URL+"/test/v1/download?count=1000&gap=0.1s&padding=1", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return func() error {
		defer res.Body.Close()
		_, err := io.Copy(io.Discard, res.Body)
		return err
	}
}

// TestTeamChecksHoldInBranches: what a team's own check refuses directly, no
// composite shows.
func TestTeamChecksHoldInBranches(t *testing.T) {
	for _, place := range []gateway.Place{gateway.AfterAuthentication, gateway.AfterAuthorization, gateway.AtEntry} {
		g := gatewaytest.Start(t, nil, gateway.WithServices(shop.Services()...),
			gateway.WithCheck(place, "no users", func(ctx context.Context, c *policy.Call) (context.Context, error) {
				if strings.HasSuffix(c.Method.FullName, "/GetUser") {
					return ctx, status.Error(codes.PermissionDenied, "not today")
				}
				return ctx, nil
			}))
		_, err := bffv1.NewBffServiceClient(g.Conn).GetUserOverview(g.As(t, "ada", "users.read orders.read"), &bffv1.GetUserOverviewRequest{UserId: "ada"})
		wantCode(t, err, codes.PermissionDenied, "not today")
	}
}
