package schema

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var errFound = errors.New("found")

// walk calls visit for a file and all that it imports, each once, what is imported first.
// An import that is not there is left out.
func walk(file protoreflect.FileDescriptor, seen map[string]bool, visit func(protoreflect.FileDescriptor) error) error {
	if file.IsPlaceholder() || seen[file.Path()] {
		return nil
	}
	seen[file.Path()] = true
	for i := range file.Imports().Len() {
		if err := walk(file.Imports().Get(i).FileDescriptor, seen, visit); err != nil {
			return err
		}
	}
	return visit(file)
}

// addFiles registers the files of the services, and their imports. Two files of one path
// must say the same: which descriptor of a type is used does not matter then.
func (c *Catalogue) addFiles(services []protoreflect.ServiceDescriptor) error {
	for _, sd := range services {
		err := walk(sd.ParentFile(), map[string]bool{}, func(f protoreflect.FileDescriptor) error {
			have, err := c.files.FindFileByPath(f.Path())
			switch {
			case err != nil:
				return c.files.RegisterFile(f)
			case have != f && !proto.Equal(protodesc.ToFileDescriptorProto(have), protodesc.ToFileDescriptorProto(f)):
				return fmt.Errorf("there are two files %s that differ", f.Path())
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("service %s: %w", sd.FullName(), err)
		}
	}
	return nil
}
