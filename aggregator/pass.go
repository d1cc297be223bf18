package aggregator

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Branches is how composites call other services: in the gateway, gateway/upstream.
type Branches interface {
	// Call sends the bytes of a request to a method, by its full name, and returns those
	// of its response, which are the composite's to keep. They must be a message of the
	// method. The call must honour its context, deadline and cancellation included, and
	// must be authorized for the caller that the context carries. What the composite can
	// do without, the context says (policy.WithOptional). The error is a gRPC status.
	Call(ctx context.Context, method string, request []byte) (response []byte, err error)
}

// Method is a method of a service whose answers composites read, see Fetch, or hand on
// unread, see Pass. NewMethod makes it, once.
type Method[Req, Resp any] struct{ branch }

// ListMethod is a Method whose answers hold what is handed on in a list, see
// PassList. NewListMethod makes it, once.
type ListMethod[Req, Elem any] struct {
	branch
	list protoreflect.FieldNumber
}

// message is a pointer to a generated struct.
type message[T any] interface {
	*T
	proto.Message
}

// NewMethod finds the method by the name that generated code has for it. One that
// does not take a Req or does not answer a Resp is an error, and so is a response
// with required fields (proto2): unread, they count as unset.
func NewMethod[Req, Resp any, In message[Req], Out message[Resp]](to Branches, name string) (Method[Req, Resp], error) {
	md, err := method(name, In(new(Req)))
	if err == nil {
		err = canBeUnread(md.Output(), Out(new(Resp)))
	}
	if err != nil {
		return Method[Req, Resp]{}, fmt.Errorf("aggregator: %s: %w", name, err)
	}
	return Method[Req, Resp]{branch{to, name}}, nil
}

// NewListMethod finds the method, and the list by its field's name in the
// response. What is no list of Elem is an error, too.
func NewListMethod[Req, Elem any, In message[Req], Out message[Elem]](to Branches, name string, list protoreflect.Name) (ListMethod[Req, Elem], error) {
	md, err := method(name, In(new(Req)))
	if err != nil {
		return ListMethod[Req, Elem]{}, fmt.Errorf("aggregator: %s: %w", name, err)
	}
	fd := md.Output().Fields().ByName(list)
	// The entries of a map are messages, too; a group has no length to split at.
	if fd == nil || !fd.IsList() || fd.Kind() != protoreflect.MessageKind {
		return ListMethod[Req, Elem]{}, fmt.Errorf("aggregator: %s: %s has no list of messages named %q", name, md.Output().FullName(), list)
	}
	if err := canBeUnread(fd.Message(), Out(new(Elem))); err != nil {
		return ListMethod[Req, Elem]{}, fmt.Errorf("aggregator: %s: %s: %w", name, list, err)
	}
	return ListMethod[Req, Elem]{branch{to, name}, fd.Number()}, nil
}

// Fetch makes a branch whose answer the composite reads; what it only hands on is for
// Pass. The answer is handed over to dst only when the call succeeded in time, so a merge
// after Wait sees either the whole part or nil.
func Fetch[Req, Resp any, In message[Req], Out message[Resp]](dst **Resp, m Method[Req, Resp], req In) Branch {
	return func(ctx context.Context) error {
		b, err := m.call(ctx, req)
		if err != nil {
			return err
		}
		resp := new(Resp)
		if proto.Unmarshal(b, Out(resp)) != nil {
			return errMalformed
		}
		*dst = resp
		return nil
	}
}

// Pass makes a branch whose answer the composite hands on without reading it:
// dst becomes a message that keeps the answer's bytes as unknown fields, and
// proto.Marshal puts them where the message belongs. Its getters see nothing of
// them: what a composite reads, it must Fetch. dst is set as Fetch sets it: only
// when the call succeeded in time.
func Pass[Req, Resp any, In message[Req], Out message[Resp]](dst **Resp, m Method[Req, Resp], req In) Branch {
	return func(ctx context.Context) error {
		b, err := m.call(ctx, req)
		if err != nil {
			return err
		}
		resp := new(Resp)
		Out(resp).ProtoReflect().SetUnknown(b)
		*dst = resp
		return nil
	}
}

// PassList is Pass for a list: each of its messages keeps its bytes. What else
// the answer holds, such as a page token, is dropped.
func PassList[Req, Elem any, In message[Req], Out message[Elem]](dst *[]*Elem, m ListMethod[Req, Elem], req In) Branch {
	return func(ctx context.Context) error {
		b, err := m.call(ctx, req)
		if err != nil {
			return err
		}
		list, err := split[Elem, Out](b, m.list)
		if err != nil {
			return err
		}
		*dst = list
		return nil
	}
}

// branch is a method, and how it is called.
type branch struct {
	to   Branches
	name string
}

// call answers the bytes of the method's response, if they came in time.
func (b branch) call(ctx context.Context, req proto.Message) ([]byte, error) {
	request, err := proto.Marshal(req)
	if err != nil { // It holds text that is not UTF-8, which no service would take.
		return nil, errMalformed
	}
	response, err := b.to.Call(ctx, b.name, request)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	return response, nil
}

func method(name string, in proto.Message) (protoreflect.MethodDescriptor, error) {
	full := strings.ReplaceAll(strings.TrimPrefix(name, "/"), "/", ".")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(full))
	if err != nil {
		return nil, err
	}
	md, ok := d.(protoreflect.MethodDescriptor)
	if !ok || md.IsStreamingClient() || md.IsStreamingServer() {
		return nil, fmt.Errorf("is no unary method")
	}
	if got := in.ProtoReflect().Descriptor().FullName(); got != md.Input().FullName() {
		return nil, fmt.Errorf("takes a %s, not a %s", md.Input().FullName(), got)
	}
	return md, nil
}

func canBeUnread(md protoreflect.MessageDescriptor, as proto.Message) error {
	if got := as.ProtoReflect().Descriptor().FullName(); got != md.FullName() {
		return fmt.Errorf("is a %s, not a %s", md.FullName(), got)
	}
	if md.RequiredNumbers().Len() > 0 {
		return fmt.Errorf("%s has required fields, and so must be read", md.FullName())
	}
	return nil
}
