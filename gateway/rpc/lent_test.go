package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/rpc"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// lateReader stands for upstream with a team's check that reads its message when the
// call is done.
type lateReader struct {
	upstream.Sender
	fails      bool
	sent, late []byte
	done       chan struct{}
}

func (l *lateReader) Call(_ context.Context, call *policy.Call, request *wire.Frame, a *upstream.Answer) error {
	lent := request.Data // Call.Message.Wire of checks.
	l.sent = bytes.Clone(lent)
	call.OnDone(func(error) {
		l.late = bytes.Clone(lent)
		close(l.done)
	})
	if l.fails {
		return errors.New("refused")
	}
	return wire.Cloner{}.Copy(&a.Message, &testv1.EchoResponse{Id: "x"})
}

// TestMessageIsLentUntilDone: the bytes of a request go back to the pool, which
// here spoils them, when the call is done and no earlier.
func TestMessageIsLentUntilDone(t *testing.T) {
	for name, fails := range map[string]bool{"answered": false, "failed": true} {
		t.Run(name, func(t *testing.T) {
			conn := &lateReader{fails: fails, done: make(chan struct{})}
			cc := start(t, func(o *rpc.Options) { o.Conn = conn }).dial(nil)
			_, err := testv1.NewTestServiceClient(cc).Echo(soon(t), &testv1.EchoRequest{Id: strings.Repeat("secret", 10_000)})
			if (err != nil) != fails {
				t.Fatal(err)
			}
			select {
			case <-conn.done:
			case <-soon(t).Done():
				t.Fatal("the call does not end")
			}
			if !bytes.Equal(conn.late, conn.sent) {
				t.Errorf("OnDone reads %.16x…, sent was %.16x…", conn.late, conn.sent)
			}
		})
	}
}
