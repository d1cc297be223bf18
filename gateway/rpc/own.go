package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/gateway/wire"
)

// Bounds on what the gateway answers by itself, to whoever can connect.
const (
	maxHealthBytes     = 1 << 10 // of a request; a Watch holds it
	maxReflectionBytes = 64 << 10
	// maxReflections is how many questions a reflection stream may ask: it was
	// admitted once.
	maxReflections        = 1000
	defaultReflectionTime = 5 * time.Minute
)

const reflectionPrefix = "/grpc.reflection."

// small bounds a message for the gateway itself. Forwarded ones are frames.
func (s *Server) small(m any) error {
	if _, ok := m.(*wire.Frame); ok {
		return nil
	}
	msg, ok := m.(proto.Message)
	if !ok {
		return nil
	}
	most := maxReflectionBytes
	switch m.(type) {
	case *healthpb.HealthCheckRequest, *healthpb.HealthListRequest:
		most = maxHealthBytes
	}
	if proto.Size(msg) > most { // With unknown fields.
		s.o.Refused(limitMessageBytes)
		return refusal(codes.ResourceExhausted, "BODY_TOO_LARGE", "the message is larger than this call takes")
	}
	return nil
}

// reflect serves a reflection stream, until it has asked enough, is too old, or
// the server drains.
func (s *Server) reflect(srv any, o *observedStream, next grpc.StreamHandler) error {
	until, cancel := context.WithTimeoutCause(s.serving, s.o.ReflectionTime, status.Error(codes.DeadlineExceeded, "the stream is too old"))
	defer cancel()
	o.x.open() // Before another goroutine reads.
	return next(srv, &asked{observedStream: o, until: until})
}

// asked is a reflection stream with so many questions, and an end.
type asked struct {
	*observedStream
	until context.Context
	n     int
}

// RecvMsg may leave a goroutine that reads, until grpc-go has ended the stream:
// its context alone would end reading, and the caller be told of that.
func (a *asked) RecvMsg(m any) error {
	read := make(chan error, 1)
	go func() { read <- a.observedStream.RecvMsg(m) }()
	select {
	case err := <-read:
		if err != nil {
			return err
		}
	case <-a.until.Done():
		return context.Cause(a.until)
	}
	if a.n++; a.n > maxReflections {
		a.s.o.Refused(limitReflections)
		return refusal(codes.ResourceExhausted, "TOO_MANY_MESSAGES", "too many questions on one stream")
	}
	return nil
}

// Drain tells health checks that the server is going away, and ends what it
// answers by itself: nothing of that is worth waiting for.
func (s *Server) Drain() {
	s.health.Shutdown()
	s.Leave()
}

// Leave ends what the server answers by itself, and tells health checks nothing:
// their clients connect again, and find whoever serves now.
func (s *Server) Leave() {
	s.drain(status.Error(codes.Unavailable, "the gateway is going away"))
}
