package upstream

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sluice-gateway/sluice/gateway/cache"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/wire"
)

// changed removes what a write names, and what is cached for its paths, when it has
// succeeded or may have. Of a failure, fields of the response are not known.
func (k *kept) changed(call *policy.Call, in, out any, err error) {
	if len(k.invalidates)+len(k.targets) == 0 && k.location == nil || err != nil && !mayHaveHappened(status.Code(err)) {
		return
	}
	if err != nil && call.Attempts == 0 { // Refused here, and never sent.
		return
	}
	m, request, answer := call.Method, messageOf(in), messageOf(out)
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

// messageOf is what the connection was given, as policy reads it.
func messageOf(v any) policy.Message {
	switch v := v.(type) {
	case *wire.Frame:
		return policy.Message{Wire: v.Data}
	case *emptypb.Empty: // Perhaps of a composite, with the answer unread.
		return policy.Message{Wire: v.ProtoReflect().GetUnknown()}
	case proto.Message:
		return policy.Message{Proto: v}
	}
	return policy.Message{}
}

// names fills in the paths and tags of an answer; without one (nil), those that need none.
func (k *kept) names(in policy.Message, answer []byte, m *policy.Method) ([]string, error) {
	var out []string
	for i := range k.targets {
		name, err := k.targets[i].name(in)
		if err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	for _, t := range k.tags {
		if answer == nil && t.OfResponse() {
			continue
		}
		name, err := tagName(t, in, policy.Message{Wire: answer}, m)
		if err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return out, nil
}

// tagName fills in a tag. The scan refuses more than parsers do; what a service may
// have read is parsed then.
func tagName(t *policy.Tag, in, out policy.Message, m *policy.Method) (string, error) {
	name, err := t.Of(in, out)
	if err == nil {
		return name, nil
	}
	if in, err = parsed(in, m.Descriptor.Input()); err != nil {
		return "", err
	}
	if out, err = parsed(out, m.Descriptor.Output()); err != nil {
		return "", err
	}
	return t.Of(in, out)
}

func parsed(m policy.Message, md protoreflect.MessageDescriptor) (policy.Message, error) {
	if m.Proto != nil {
		return m, nil
	}
	d := dynamicpb.NewMessage(md)
	if err := proto.Unmarshal(m.Wire, d); err != nil {
		return m, fmt.Errorf("upstream: %w", err)
	}
	return policy.Message{Proto: d}, nil
}
