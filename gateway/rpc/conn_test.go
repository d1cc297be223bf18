package rpc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/sluice-gateway/sluice/gateway/gatewaytest/rawhttp2"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/rpc"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// unread makes calls over one connection that never opens a window, and returns
// it.
func unread(t *testing.T, e *edge, tc *tls.Config, calls int) *rawhttp2.Conn {
	t.Helper()
	c := rawhttp2.Dial(t, e.addr, tc)
	for i := range calls {
		if err := ask(c, uint32(2*i+1)); err != nil { //nolint:gosec // Few.
			t.Fatal(err)
		}
	}
	eventually(t, "the backend answers", func() bool { return e.backend.count() == calls })
	return c
}

// ask makes a call.
func ask(c *rawhttp2.Conn, stream uint32) error {
	return errors.Join(c.Headers(stream, false, rawhttp2.GRPC(echo)...), c.Message(stream, true, nil))
}

// generous is a backend of large answers.
type generous struct {
	*backend
	size int
}

func (g generous) Call(ctx context.Context, _ *policy.Call, _ *wire.Frame, a *upstream.Answer) error {
	g.note(ctx)
	a.Message.Data = make([]byte, g.size)
	return nil
}

// TestAnswersNobodyTakes: an answer is kept for so long and no longer. The
// streams are reset for both sides, the connection and its other calls go on.
func TestAnswersNobodyTakes(t *testing.T) {
	const calls, size = 40, 2 << 20
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", secure), func(t *testing.T) {
			var client *tls.Config
			e := start(t, func(o *rpc.Options) {
				o.Conn, o.AnswerTimeout = generous{o.Conn.(*backend), size}, time.Second
				if secure {
					_, _, pair, pool := selfSigned(t, "gateway")
					o.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
					client = &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}
				}
			})
			before := heap()
			c := unread(t, e, client, calls)
			held := heap() - before
			for i := range calls {
				fields, reset := c.Answer(uint32(2*i+1), 20*time.Second) //nolint:gosec // Few.
				if reset == nil {
					t.Fatalf("call %d is not reset: %v", i, fields)
				}
			}
			eventually(t, "the answers are let go", func() bool { return heap()-before < 4<<20 })
			t.Logf("%d KiB while they are kept", held>>10)
			if n := e.refusals("slow_reader"); n != calls {
				t.Errorf("%d slow readers are counted", n)
			}
			// The window of the connection is used up: give it some, and call again.
			if err := c.WindowUpdate(0, 4<<20); err != nil {
				t.Fatal(err)
			}
			next := uint32(2*calls + 1)
			if err := errors.Join(ask(c, next), c.WindowUpdate(next, 4<<20)); err != nil {
				t.Fatal(err)
			}
			if fields, reset := c.Answer(next, 20*time.Second); fields["grpc-status"] != "0" {
				t.Errorf("the connection does not go on: %v, reset %v", fields, reset)
			}
		})
	}
}

// TestAnswersTakenLate: what is read in time, or given up by its caller, is no
// slow reader's.
func TestAnswersTakenLate(t *testing.T) {
	e := start(t, func(o *rpc.Options) {
		o.Conn, o.AnswerTimeout = generous{o.Conn.(*backend), 512 << 10}, 3*time.Second
	})
	c := unread(t, e, nil, 2)
	for _, err := range []error{c.Reset(1, http2.ErrCodeCancel), c.WindowUpdate(0, 1<<20), c.WindowUpdate(3, 1<<20)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if fields, reset := c.Answer(3, 20*time.Second); fields["grpc-status"] != "0" {
		t.Errorf("%v, reset %v", fields, reset)
	}
	// A second call's turn comes after theirs would have.
	last := rawhttp2.Dial(t, e.addr, nil)
	if err := ask(last, 1); err != nil {
		t.Fatal(err)
	}
	if _, reset := last.Answer(1, 20*time.Second); reset == nil {
		t.Error("the last is not reset")
	}
	if n := e.refusals("slow_reader"); n != 1 {
		t.Errorf("%d slow readers are counted", n)
	}
	if n := c.Count(http2.FrameRSTStream); n != 0 {
		t.Errorf("%d streams are reset", n)
	}
}
