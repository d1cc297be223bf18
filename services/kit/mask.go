package kit

import (
	"slices"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// Mask is the set of top-level fields that an update changes.
type Mask map[string]bool

// UpdateMask reads an update mask (AIP-134) against resource, the message with
// the new values: an absent or empty mask names the populated ones of the mutable
// fields, "*" all of them, and a single empty path none: so the mask of a PATCH of
// {} arrives, and it changes nothing. A path that is not mutable is INVALID_ARGUMENT of
// update_mask. Paths of "etag" and of fields that are the server's to set
// (OUTPUT_ONLY, IDENTIFIER) are accepted and change nothing (AIP-203): REST
// clients send back what they read, and the mask is made from the body's keys.
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
		case p == "" && len(paths) == 1:
		case p == "etag", servers(resource, p):
		case slices.Contains(mutable, p):
			out[p] = true
		default:
			return nil, InvalidField("update_mask", "update_mask", "path %q is unknown or cannot be changed", shortened(p, maxKeyBytes))
		}
	}
	return out, nil
}

// servers says whether the field is the server's to set.
func servers(resource proto.Message, path string) bool {
	fd := resource.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(path))
	if fd == nil {
		return false
	}
	behavior := proto.GetExtension(fd.Options(), annotations.E_FieldBehavior).([]annotations.FieldBehavior)
	return slices.Contains(behavior, annotations.FieldBehavior_OUTPUT_ONLY) || slices.Contains(behavior, annotations.FieldBehavior_IDENTIFIER)
}
