package main

import (
	"cmp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	// The services of the document. One that is missing here stops the
	// generation: its operations have no RPC.
	_ "github.com/sluice-gateway/sluice/gen/shop/bff/v1"
	_ "github.com/sluice-gateway/sluice/gen/shop/order/v1"
	_ "github.com/sluice-gateway/sluice/gen/shop/profile/v1"
	_ "github.com/sluice-gateway/sluice/gen/shop/user/v1"
)

// linkedServices lists the services of the packages below shop, by name.
func linkedServices() []protoreflect.ServiceDescriptor {
	var out []protoreflect.ServiceDescriptor
	protoregistry.GlobalFiles.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(fd.Package()), "shop.") {
			for i := range fd.Services().Len() {
				out = append(out, fd.Services().Get(i))
			}
		}
		return true
	})
	slices.SortFunc(out, func(a, b protoreflect.ServiceDescriptor) int {
		return cmp.Compare(a.FullName(), b.FullName())
	})
	return out
}
