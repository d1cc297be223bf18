package rpc

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/schema"
)

// Bounds on watches of our health. Whoever can connect may watch, without a
// credential, and each watch holds some 15 KB for as long as it is open.
const (
	maxWatches           = 1024
	maxWatchesPerAddress = 32
	defaultWatchTime     = 5 * time.Minute
	// watchLinger is how long a Watch goes on when the server drains: its client
	// hears of it, and one that watches again at once does so once a second.
	watchLinger = time.Second
)

// healthServer is grpc-go's, with an end to each Watch and a bound on how many
// there are. Check and List are over at once.
type healthServer struct {
	*health.Server
	serving context.Context // ends when the server drains
	time    time.Duration
	refused func(limit string)

	mu    sync.Mutex
	known map[string]bool // services that are offered, or were: whether they are now
	total int
	of    map[netip.Addr]int
}

func newHealthServer(serving context.Context, o *Options) *healthServer {
	return &healthServer{Server: health.NewServer(), serving: serving, time: o.HealthWatchTime, refused: o.Refused, known: map[string]bool{}, of: map[netip.Addr]int{}}
}

// Offer says which services health checks know from now on: those of a catalogue. Watches
// of the others hear that they are unknown.
func (s *Server) Offer(c *schema.Catalogue) {
	h := s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.known {
		h.known[name] = false
	}
	for _, svc := range c.Services() {
		h.known[svc.Name] = true
	}
	for name, now := range h.known {
		st := healthpb.HealthCheckResponse_SERVICE_UNKNOWN
		if now {
			st = healthpb.HealthCheckResponse_SERVING
		}
		h.SetServingStatus(name, st)
	}
}

// Check takes a service that is not offered any more for one that never was.
func (h *healthServer) Check(ctx context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	out, err := h.Server.Check(ctx, in)
	if err == nil && out.GetStatus() == healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		return nil, status.Error(codes.NotFound, "unknown service")
	}
	return out, err
}

// Watch ends without an error when its time is up: grpc-go's client watches
// again at once then, and an error every few minutes would look like a fault. A
// name that is not ours is an error at once: it will never be served here.
func (h *healthServer) Watch(in *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	if _, err := h.Check(stream.Context(), in); err != nil {
		return err
	}
	var client netip.Addr
	if x := exchangeOf(stream.Context()); x != nil {
		client = watcher(x.call)
	}
	if !h.enter(client) {
		h.refused(limitHealthWatches)
		return refusal(codes.ResourceExhausted, "TOO_MANY_IN_FLIGHT", "too many health watches at once")
	}
	defer h.leave(client)
	ctx, cancel := context.WithTimeout(stream.Context(), h.time)
	defer cancel()
	defer context.AfterFunc(h.serving, func() { time.AfterFunc(watchLinger, cancel) })()
	err := h.Server.Watch(in, &watch{Health_WatchServer: stream, ctx: ctx})
	if ctx.Err() != nil && stream.Context().Err() == nil {
		return nil
	}
	return err
}

// watcher is whom watches count against: an IPv4 address, or the /64 of an IPv6
// address, which is what one customer has.
func watcher(c *policy.Call) netip.Addr {
	a := c.Client.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// enter counts a watch, unless there are enough.
func (h *healthServer) enter(client netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.total >= maxWatches || h.of[client] >= maxWatchesPerAddress {
		return false
	}
	h.total++
	h.of[client]++
	return true
}

func (h *healthServer) leave(client netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.total--
	if h.of[client]--; h.of[client] == 0 {
		delete(h.of, client)
	}
}

// watch is a stream that ends by our clock, too.
type watch struct {
	healthpb.Health_WatchServer
	ctx context.Context
}

func (w *watch) Context() context.Context { return w.ctx }
