package schema

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// types are those that the services' files declare, and behind them the linked ones.
type types struct {
	own    *dynamicpb.Types
	linked transcode.Resolver
}

func newTypes(files *protoregistry.Files, linked transcode.Resolver) *types {
	if linked == nil {
		linked = &protoregistry.Types{}
	}
	return &types{own: dynamicpb.NewTypes(files), linked: linked}
}

// FindMessageByName implements transcode.Resolver.
func (t *types) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	return either(t.own.FindMessageByName, t.linked.FindMessageByName, name)
}

// FindMessageByURL implements transcode.Resolver.
func (t *types) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return either(t.own.FindMessageByURL, t.linked.FindMessageByURL, url)
}

// either prefers our own descriptor of a message, with generated code where that is of
// this very descriptor.
func either[K any](own, linked func(K) (protoreflect.MessageType, error), key K) (protoreflect.MessageType, error) {
	ours, err := own(key)
	theirs, linkedErr := linked(key)
	if err != nil || linkedErr == nil && theirs.Descriptor() == ours.Descriptor() {
		return theirs, linkedErr
	}
	return ours, nil
}

// FindExtensionByName implements transcode.Resolver.
func (t *types) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	xt, err := t.own.FindExtensionByName(name)
	linked, linkedErr := t.linked.FindExtensionByName(name)
	return extension(xt, err, linked, linkedErr)
}

// FindExtensionByNumber implements transcode.Resolver.
func (t *types) FindExtensionByNumber(message protoreflect.FullName, field protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	xt, err := t.own.FindExtensionByNumber(message, field)
	linked, linkedErr := t.linked.FindExtensionByNumber(message, field)
	return extension(xt, err, linked, linkedErr)
}

// extension is as either: a generated message takes no extension that is a dynamic one.
func extension(own protoreflect.ExtensionType, err error, linked protoreflect.ExtensionType, linkedErr error) (protoreflect.ExtensionType, error) {
	if err != nil || linkedErr == nil && linked.TypeDescriptor().Descriptor() == own.TypeDescriptor().Descriptor() {
		return linked, linkedErr
	}
	return own, nil
}
