package gateway

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/gateway/schema"
)

// checkCeilings refuses rules that are beyond what the gRPC server is built for. It is
// built once: under a later configuration it would refuse messages that a method takes,
// and cut calls that may take longer.
func (s *snapshot) checkCeilings(c *schema.Catalogue) error {
	g, d := s.cfg.GetGrpc(), s.cfg.GetDefaults()
	message := ceiling[int64]{"max_message_bytes", g.GetMaxMessageBytes()}
	call := ceiling[time.Duration]{"max_call_time", g.GetMaxCallTime().AsDuration()}
	bytes, deadline, age := d.GetMaxRequestBytes(), d.GetDeadline().AsDuration(), d.GetStreamMaxAge().AsDuration()
	errs := []error{message.check("defaults: max_request_bytes", bytes), call.check("defaults: deadline", deadline), call.check("defaults: stream_max_age", age)}
	for _, m := range c.Methods() {
		name := strings.TrimPrefix(m.FullName, "/")
		o := s.cfg.GetMethods()[name]
		errs = append(errs, message.checkMethod(name, "max_request_bytes", m.Rule.MaxRequestBytes, o.GetMaxRequestBytes(), bytes))
		if m.Streaming() {
			errs = append(errs, call.checkMethod(name, "stream_max_age", m.Rule.StreamMaxAge, o.GetStreamMaxAge().AsDuration(), age))
		} else {
			errs = append(errs, call.checkMethod(name, "deadline", m.Rule.Deadline, o.GetDeadline().AsDuration(), deadline))
		}
	}
	return errors.Join(errs...)
}

// ceiling is a key under grpc with its value.
type ceiling[T int64 | time.Duration] struct {
	key  string
	most T
}

// check refuses what the configuration says at a place, which the error begins with.
func (c ceiling[T]) check(place string, v T) error {
	if v <= c.most {
		return nil
	}
	return fmt.Errorf("%s: %v is more than grpc.%s, %v: lower it, or raise that, which needs a restart", place, v, c.key, c.most)
}

// checkMethod refuses what a method is held to, once: a default that it takes was told
// of already. What its own rule says has no place but the ceiling's.
func (c ceiling[T]) checkMethod(method, key string, held, overridden, byDefault T) error {
	switch {
	case overridden > 0:
		return c.check("methods: "+method+": "+key, held)
	case held <= c.most || held == byDefault:
		return nil
	}
	return fmt.Errorf("grpc: %s: %v is less than the %s of %v in the rule of %s: raise it, which needs a restart, or lower that under methods", c.key, c.most, key, held, method)
}
