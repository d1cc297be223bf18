package gateway_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway"
	"github.com/sluice-gateway/sluice/gateway/config"
	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// weekdays is a team's own check: who may call is decided already, when is
// decided here. It knows neither edge, and holds on both.
func weekdays(now func() time.Time) policy.Check {
	return func(ctx context.Context, c *policy.Call) (context.Context, error) {
		if d := now().Weekday(); d == time.Saturday || d == time.Sunday {
			return ctx, status.Errorf(codes.FailedPrecondition, "%s is closed on %ss", c.Method.Descriptor.Name(), d)
		}
		c.Annotate("X-Open", "yes")
		return ctx, nil
	}
}

// powered is ordinary HTTP middleware around the REST edge.
func powered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Powered-By", "water")
		next.ServeHTTP(w, r)
	})
}

// A main of one's own: services, a check and a middleware beside the gateway's.
// A real one ends in g.Run(ctx), which listens; here the REST edge is called
// directly.
func Example() {
	dir, err := os.MkdirTemp("", "sluice")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	cfg, err := config.Load("", func(name string) string {
		return map[string]string{"SLUICE_DATA_DIR": dir}[name]
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	today := time.Date(2026, time.January, 2, 12, 0, 0, 0, time.UTC) // A Friday.
	g, err := gateway.New(cfg,
		gateway.WithServices(gatewaytest.TestService(nil)), // Yours; shop.Services() are the shop's.
		gateway.WithCheck(gateway.AfterAuthorization, "weekdays", weekdays(func() time.Time { return today })),
		gateway.WithHTTPMiddleware(powered),
		gateway.WithDemo(), // Or name an issuer of tokens in the configuration.
		gateway.WithLogger(slog.New(slog.DiscardHandler)),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer g.Close()
	for range 2 {
		w := httptest.NewRecorder()
		g.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/test/v1/names?count=2", nil))
		body, _ := io.ReadAll(w.Body)
		fmt.Println(w.Code, w.Header().Get("X-Powered-By"), w.Header().Get("X-Open"), strings.Contains(string(body), "closed on Saturdays"))
		today = today.AddDate(0, 0, 1)
	}
	// Output:
	// 200 water yes false
	// 400 water  true
}
