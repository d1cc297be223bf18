package aggregator

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Method is a method of a service whose answers composites hand on unread, see
// Pass. NewMethod makes it, once.
type Method[Req, Resp any] struct{ unread }

// ListMethod is a Method whose answers hold what is handed on in a list, see
// PassList. NewListMethod makes it, once.
type ListMethod[Req, Elem any] struct {
	unread
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
func NewMethod[Req, Resp any, In message[Req], Out message[Resp]](conn grpc.ClientConnInterface, name string) (Method[Req, Resp], error) {
	md, err := method(name, In(new(Req)))
	if err == nil {
		err = canBeUnread(md.Output(), Out(new(Resp)))
	}
	if err != nil {
		return Method[Req, Resp]{}, fmt.Errorf("aggregator: %s: %w", name, err)
	}
	return Method[Req, Resp]{unread{conn, name}}, nil
}

// NewListMethod finds the method, and the list by its field's name in the
// response. What is no list of Elem is an error, too.
func NewListMethod[Req, Elem any, In message[Req], Out message[Elem]](conn grpc.ClientConnInterface, name string, list protoreflect.Name) (ListMethod[Req, Elem], error) {
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
	return ListMethod[Req, Elem]{unread{conn, name}, fd.Number()}, nil
}

// Pass makes a branch whose answer the composite hands on without reading it:
// dst becomes a message that keeps the answer's bytes as unknown fields, and
// proto.Marshal puts them where the message belongs. Its getters see nothing of
// them: what a composite reads, it must Fetch. dst is set as Fetch sets it: only
// when the call succeeded in time.
func Pass[Req, Resp any, Out message[Resp]](dst **Resp, m Method[Req, Resp], req *Req) Branch {
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
func PassList[Req, Elem any, Out message[Elem]](dst *[]*Elem, m ListMethod[Req, Elem], req *Req) Branch {
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

// unread is a method that is called for its answer's bytes.
type unread struct {
	conn grpc.ClientConnInterface
	name string
}

// asGenerated is what generated clients say, too: the name is no caller's word.
var (
	asGenerated         = []grpc.CallOption{grpc.StaticMethod()}
	asGeneratedOptional = []grpc.CallOption{grpc.StaticMethod(), CallOption{}}
)

// call answers the bytes of the method's response: they are what
// google.protobuf.Empty, which has no fields, keeps of any message that it is
// parsed from. So it works over every connection. One that knows, as the gateway's
// does, that the method answers no Empty need not parse the bytes for it; it must
// then check them as parsing the response would.
func (u unread) call(ctx context.Context, req any) ([]byte, error) {
	var raw emptypb.Empty
	opts := asGenerated
	if isOptional(ctx) {
		opts = asGeneratedOptional
	}
	if err := u.conn.Invoke(ctx, u.name, req, &raw, opts...); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	return raw.ProtoReflect().GetUnknown(), nil
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
