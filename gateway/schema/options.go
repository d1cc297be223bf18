package schema

import (
	"fmt"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// options are those of one method that the gateway reads.
type options struct {
	service *policyv1.MethodRule // nil where the service states nothing
	method  *policyv1.MethodRule
	http    *annotations.HttpRule // nil where the method has no route
}

func readOptions(md protoreflect.MethodDescriptor) (o options, err error) {
	o.method = &policyv1.MethodRule{}
	has, err := readOption(md, policyv1.E_Method, o.method)
	switch {
	case err != nil:
		return o, err
	case !has:
		return o, fmt.Errorf("%s has no rule: add option (%s)", md.FullName(), policyv1.E_Method.TypeDescriptor().FullName())
	}
	rule := &policyv1.MethodRule{}
	if has, err = readOption(md.Parent(), policyv1.E_Service, rule); err != nil {
		return o, err
	} else if has {
		o.service = rule
	}
	binding := &annotations.HttpRule{}
	if has, err = readOption(md, annotations.E_Http, binding); err != nil {
		return o, err
	} else if has {
		o.http = binding
	}
	return o, nil
}

// readOption reads an option of a descriptor from its bytes, whatever resolver the
// descriptor was parsed with: proto.GetExtension panics at a value that another resolver
// than the linked one has made, and sees nothing of what stayed unknown bytes. An option
// that is somebody else's under the same number does not count as set.
func readOption(of protoreflect.Descriptor, option protoreflect.ExtensionType, into proto.Message) (set bool, err error) {
	want := option.TypeDescriptor()
	raw, err := proto.MarshalOptions{AllowPartial: true}.Marshal(of.Options())
	if err != nil {
		return false, fmt.Errorf("options of %s: %w", of.FullName(), err)
	}
	var value []byte // Several are merged, as every parser does.
	for len(raw) > 0 {
		num, typ, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return false, fmt.Errorf("options of %s: %w", of.FullName(), protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(num, typ, raw[n:])
		if size < 0 {
			return false, fmt.Errorf("options of %s: %w", of.FullName(), protowire.ParseError(size))
		}
		if num == want.Number() && typ == protowire.BytesType {
			b, _ := protowire.ConsumeBytes(raw[n:])
			value, set = append(value, b...), true
		}
		raw = raw[n+size:]
	}
	if !set || foreign(of.ParentFile(), want) {
		return false, nil
	}
	if err := proto.Unmarshal(value, into); err != nil {
		return false, fmt.Errorf("option (%s) of %s cannot be read: %w", want.FullName(), of.FullName(), err)
	}
	if path := unknown(into.ProtoReflect()); path != "" {
		// Half a rule would let in whom the whole one keeps out.
		return false, fmt.Errorf("option (%s) of %s: %s has fields that this gateway does not know: it is older than the option", want.FullName(), of.FullName(), path)
	}
	return true, nil
}

// foreign says whether the files that a descriptor's file sees give the option's number
// to an extension of another name. Where none declares it, it counts as ours: a set
// may have been stripped.
func foreign(file protoreflect.FileDescriptor, want protoreflect.ExtensionDescriptor) bool {
	theirs := false
	err := walk(file, map[string]bool{}, func(f protoreflect.FileDescriptor) error {
		for i := range f.Extensions().Len() {
			x := f.Extensions().Get(i)
			if x.Number() != want.Number() || x.ContainingMessage().FullName() != want.ContainingMessage().FullName() {
				continue
			}
			if x.FullName() == want.FullName() {
				return errFound
			}
			theirs = true
		}
		return nil
	})
	return err == nil && theirs
}

// unknown is the name of the first message within m that has fields which are not
// declared; empty where there is none.
func unknown(m protoreflect.Message) (name string) {
	if len(m.GetUnknown()) > 0 {
		return string(m.Descriptor().FullName())
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Message() == nil || fd.IsMap():
		case fd.IsList():
			for i := 0; i < v.List().Len() && name == ""; i++ {
				name = unknown(v.List().Get(i).Message())
			}
		default:
			name = unknown(v.Message())
		}
		return name == ""
	})
	return name
}
