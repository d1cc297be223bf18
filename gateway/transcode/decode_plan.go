package transcode

import (
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// decodePlans are the plans that JSON is read by, one a message, of a Set.
type decodePlans struct {
	mu    sync.RWMutex
	plans map[protoreflect.MessageDescriptor]*decodePlan
}

// decodePlan says how JSON becomes the wire form of one message.
type decodePlan struct {
	md protoreflect.MessageDescriptor
}

// of returns the plan of a message, compiled with all that it nests at the first
// call.
func (s *decodePlans) of(md protoreflect.MessageDescriptor) *decodePlan {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plans == nil {
		s.plans = map[protoreflect.MessageDescriptor]*decodePlan{}
	}
	if s.plans[md] == nil {
		s.plans[md] = &decodePlan{md: md}
	}
	return s.plans[md]
}
