package rpc

import (
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	alphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sluice-gateway/sluice/gateway/schema"
)

// described is what reflection shows: the services of the current State and the server's
// own, with their files, and nothing else that is linked in.
type described struct {
	s   *Server
	own *protoregistry.Files
}

func (s *Server) registerReflection() error {
	d := &described{s: s, own: &protoregistry.Files{}}
	for _, f := range []protoreflect.FileDescriptor{healthpb.File_grpc_health_v1_health_proto, reflectionpb.File_grpc_reflection_v1_reflection_proto, alphapb.File_grpc_reflection_v1alpha_reflection_proto} {
		if err := d.own.RegisterFile(f); err != nil {
			return err
		}
	}
	o := reflection.ServerOptions{Services: d, DescriptorResolver: d, ExtensionResolver: d}
	reflectionpb.RegisterServerReflectionServer(s.grpc, reflection.NewServerV1(o)) // Streams only: observeStream sees them.
	alphapb.RegisterServerReflectionServer(s.grpc, reflection.NewServer(o))
	return nil
}

func (d *described) catalogue() *schema.Catalogue {
	state, held := d.s.o.Current()
	defer held.Release()
	return state.Catalogue
}

// GetServiceInfo implements reflection.ServiceInfoProvider, which asks for names only.
func (d *described) GetServiceInfo() map[string]grpc.ServiceInfo {
	out := d.s.grpc.GetServiceInfo()
	for _, s := range d.catalogue().Services() {
		out[s.Name] = grpc.ServiceInfo{Metadata: s.Descriptor.ParentFile().Path()}
	}
	return out
}

// FindFileByPath implements protodesc.Resolver.
func (d *described) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if f, err := d.catalogue().Files().FindFileByPath(path); err == nil {
		return f, nil
	}
	return d.own.FindFileByPath(path)
}

// FindDescriptorByName implements protodesc.Resolver.
func (d *described) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if f, err := d.catalogue().Files().FindDescriptorByName(name); err == nil {
		return f, nil
	}
	return d.own.FindDescriptorByName(name)
}

// FindExtensionByName implements reflection.ExtensionResolver.
func (d *described) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return dynamicpb.NewTypes(d.catalogue().Files()).FindExtensionByName(name)
}

// FindExtensionByNumber implements reflection.ExtensionResolver.
func (d *described) FindExtensionByNumber(message protoreflect.FullName, number protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return dynamicpb.NewTypes(d.catalogue().Files()).FindExtensionByNumber(message, number)
}

// RangeExtensionsByMessage implements reflection.ExtensionResolver.
func (d *described) RangeExtensionsByMessage(message protoreflect.FullName, f func(protoreflect.ExtensionType) bool) {
	d.catalogue().Files().RangeFiles(func(file protoreflect.FileDescriptor) bool {
		return rangeExtensions(file, message, f)
	})
}

// rangeExtensions goes through what a file or a message declares, until f is false.
func rangeExtensions(in interface {
	Extensions() protoreflect.ExtensionDescriptors
	Messages() protoreflect.MessageDescriptors
}, message protoreflect.FullName, f func(protoreflect.ExtensionType) bool) bool {
	for i := range in.Extensions().Len() {
		if x := in.Extensions().Get(i); x.ContainingMessage().FullName() == message && !f(dynamicpb.NewExtensionType(x)) {
			return false
		}
	}
	for i := range in.Messages().Len() {
		if !rangeExtensions(in.Messages().Get(i), message, f) {
			return false
		}
	}
	return true
}
