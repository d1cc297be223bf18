package upstream_test

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"

	"github.com/sluice-gateway/sluice/gateway/discovery"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/resilience"
	"github.com/sluice-gateway/sluice/gateway/upstream"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// TestShadowIsNotTheTarget: that a shadow has answered says nothing of whether the
// service's own target is found. As long as it is not, a context bounds the calls.
func TestShadowIsNotTheTarget(t *testing.T) {
	silent := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	lookups, err := discovery.New(discovery.Options{DNS: silent})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lookups.Close() })
	const most = 200 * time.Millisecond
	nowhere := remoteOf(t, upstream.RemoteOptions{Target: "dns:///nowhere.invalid:1", Discovery: lookups, Deadlines: map[string]time.Duration{service + "Echo": most}})
	shadow := (&server{}).target(t, "inprocess")
	f := travelBy(t, nowhere, upstream.ServiceOptions{Shadow: &upstream.Shadow{Target: away{shadow}, Percent: 100}}, policy.Override{Deadline: most})
	for n := range 3 {
		ctx, cancel := context.WithTimeout(f.admit(t, "Echo", &policy.Call{}), 20*time.Second)
		code(t, f.Invoke(ctx, service+"Echo", &testv1.EchoRequest{}, &testv1.EchoResponse{}), codes.DeadlineExceeded)
		if ctx.Err() != nil {
			t.Fatalf("call %d: the rule's deadline did not end it", n+1)
		}
		cancel()
		for end := time.Now().Add(20 * time.Second); f.counter(t, "sluice_shadow_total", "ok") < float64(n+1) && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
}

// away is a target that is not known to be in this process.
type away struct{ upstream.Target }

// panicking is a target whose client panics.
type panicking struct{ *backend }

func (panicking) Invoke(context.Context, string, *wire.Frame, *wire.Frame, *metadata.MD, *metadata.MD) error {
	panic("x")
}

// TestPermitsOfAPanic: the edges survive a panic, so what a call held must be given back.
func TestPermitsOfAPanic(t *testing.T) {
	s := resilient(t, resilience.Options{})
	f := travel(t, panicking{&backend{}}, upstream.ServiceOptions{Resilience: s})
	func() {
		defer func() { _ = recover() }()
		_, err := f.echo(t, &policy.Call{}, "ada")
		t.Error("no panic:", err)
	}()
	for _, c := range s.States() {
		if c.InFlight != 0 {
			t.Errorf("%d calls are in flight", c.InFlight)
		}
	}
}
