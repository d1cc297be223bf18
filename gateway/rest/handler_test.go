package rest

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// waitingConn answers when its call has ended, and says what of it there was.
type waitingConn struct {
	upstream.Sender
	entered chan struct{}
	ended   error
	within  time.Duration
}

func (c *waitingConn) Call(ctx context.Context, _ *policy.Call, _ *wire.Frame, a *upstream.Answer) error {
	if end, ok := ctx.Deadline(); ok {
		c.within = time.Until(end)
	}
	close(c.entered)
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second): // Nobody has ended it.
	}
	c.ended = ctx.Err()
	a.Header = metadata.Pairs("let-out", "1")
	return status.FromContextError(ctx.Err()).Err()
}

// TestCallsEnd: what ends a request, its caller's leaving or its Grpc-Timeout, ends
// its call, whatever context the handler has in its hands.
func TestCallsEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		timeout string
		ended   error
		status  int
	}{
		"the caller leaves": {"", context.Canceled, 499},
		"its time is over":  {"20m", context.DeadlineExceeded, 504},
	} {
		t.Run(name, func(t *testing.T) {
			conn := &waitingConn{entered: make(chan struct{})}
			e := newEdge(t, func(o *edgeOptions) {
				o.Conn = conn
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r := httptest.NewRequestWithContext(ctx, "GET", echoPath, nil)
			if tc.timeout != "" {
				r.Header.Set("Grpc-Timeout", tc.timeout)
			} else {
				go func() {
					<-conn.entered
					cancel()
				}()
			}
			a := e.do(t, r)
			if a.status != tc.status || conn.ended != tc.ended { //nolint:errorlint // The very error of a context.
				t.Errorf("%d, %v", a.status, conn.ended)
			}
			if (conn.within > 0) != (tc.timeout != "") {
				t.Errorf("deadline in %v", conn.within)
			}
			if a.header.Get("Let-Out") != "1" {
				t.Errorf("headers of the service: %v", a.header)
			}
		})
	}
}

// TestHandlerContext: it has the values of the call's context, and nothing to enter
// a child into.
func TestHandlerContext(t *testing.T) {
	type key struct{}
	outer, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "v"))
	x := &exchange{}
	ctx := x.handle(outer)
	cancel()
	if ctx.Done() != nil || ctx.Err() != nil || ctx.Value(key{}) != "v" || exchangeOf(ctx) != x {
		t.Error(ctx.Done(), ctx.Err(), ctx.Value(key{}), exchangeOf(ctx) == x)
	}
	inner, stop := context.WithCancel(ctx)
	stop()
	if inner.Err() == nil || endedBy(inner) != nil || status.FromContextError(inner.Err()).Code() != codes.Canceled {
		t.Error(inner.Err(), context.Cause(inner))
	}
}
