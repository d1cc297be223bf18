package upstream

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// changed removes what a write names, and what is cached for its paths, when it has
// succeeded or may have. Of a failure, fields of the response are not known.
func (k *caching) changed(call *policy.Call, request, answer []byte, err error) {
	if len(k.invalidates)+len(k.targets) == 0 && k.location == nil || err != nil && !mayHaveHappened(status.Code(err)) {
		return
	}
	if err != nil && call.Attempts == 0 { // Refused here, and never sent.
		return
	}
	m := call.Method
	var tags, targets []string
	for _, t := range k.invalidates {
		if err != nil && t.OfResponse() {
			continue
		}
		if name, err := tagName(t, request, answer, m); err == nil { // Else the service has read nothing either.
			tags = append(tags, name)
		}
	}
	k.cache.Invalidate(tags...)
	if k.reads && !call.Writes {
		return
	}
	for i := range k.targets {
		if name, err := k.targets[i].name(request); err == nil {
			targets = append(targets, name)
		}
	}
	if k.location != nil && err == nil {
		if path, err := tagName(k.location, request, answer, m); err == nil {
			targets = append(targets, cache.Target("", path))
		}
	}
	k.cache.InvalidateTargets(targets...)
}

func mayHaveHappened(c codes.Code) bool {
	switch c {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.Unknown, codes.Internal, codes.DataLoss:
		return true
	}
	return false
}

// names fills in the paths and tags of an answer; without one (nil), those that need none.
func (k *caching) names(request, answer []byte, m *policy.Method) ([]string, error) {
	var out []string
	for i := range k.targets {
		name, err := k.targets[i].name(request)
		if err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	for _, t := range k.tags {
		if answer == nil && t.OfResponse() {
			continue
		}
		name, err := tagName(t, request, answer, m)
		if err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return out, nil
}

// tagName fills in a tag. The scan refuses more than parsers do; what a service may
// have read is written anew then, as parsers read it.
func tagName(t *policy.Tag, request, answer []byte, m *policy.Method) (string, error) {
	name, err := t.Of(policy.Message{Wire: request}, policy.Message{Wire: answer})
	if err == nil {
		return name, nil
	}
	if request, err = rewritten(request, m.Descriptor.Input()); err != nil {
		return "", err
	}
	if answer, err = rewritten(answer, m.Descriptor.Output()); err != nil {
		return "", err
	}
	return t.Of(policy.Message{Wire: request}, policy.Message{Wire: answer})
}

func rewritten(b []byte, md protoreflect.MessageDescriptor) ([]byte, error) {
	m, err := parsed(b, md)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(m)
}

// parsed has the fields that are known alone: the scan may refuse the others. The parser of
// dynamic messages panics on a map's key that comes again with another wire type, which a
// caller may send, and a stream's messages are sent by a goroutine where nobody recovers.
func parsed(b []byte, md protoreflect.MessageDescriptor) (d *dynamicpb.Message, err error) {
	defer func() {
		if v := recover(); v != nil {
			d, err = nil, fmt.Errorf("upstream: no message of %s: %v", md.FullName(), v)
		}
	}()
	d = dynamicpb.NewMessage(md)
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, d); err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	return d, nil
}
