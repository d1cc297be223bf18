package kit

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// Mask is the set of top-level fields that an update changes.
type Mask map[string]bool

// UpdateMask reads an update mask (AIP-134) against resource, the message with
// the new values: an absent or empty mask names the populated ones of the mutable
// fields, "*" all of them. A path that is not mutable is INVALID_ARGUMENT of
// update_mask. The path "etag" is accepted and changes nothing: REST clients send
// the etag in the body, and the mask is made from the body's keys.
func UpdateMask(mask *fieldmaskpb.FieldMask, resource proto.Message, mutable ...string) (Mask, error) {
	out := make(Mask, len(mutable))
	paths := mask.GetPaths()
	if len(paths) == 0 {
		resource.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			if name := string(fd.Name()); slices.Contains(mutable, name) {
				out[name] = true
			}
			return true
		})
		return out, nil
	}
	for _, p := range paths {
		switch {
		case p == "*" && len(paths) == 1:
			for _, m := range mutable {
				out[m] = true
			}
		case p == "etag":
		case slices.Contains(mutable, p):
			out[p] = true
		default:
			return nil, InvalidField("update_mask", "update_mask", "path %q is unknown or cannot be changed", p)
		}
	}
	return out, nil
}
