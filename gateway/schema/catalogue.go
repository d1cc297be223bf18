package schema

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// MaxJSON bounds the JSON of a response, or of one message of a stream, in bytes: empty
// messages in a list take two bytes on the wire, and fifty times that in JSON.
const MaxJSON = 128 << 20

// Options of New.
type Options struct {
	// Defaults fill what neither method nor service states.
	Defaults policy.Defaults
	// Overrides by method, as the configuration writes it: package.Service/Method.
	Overrides map[string]policy.Override
	// Linked are the types that the program has linked in; nil means none. They serve
	// where their descriptor is the services' own, for generated code parses faster, and
	// for what an Any or an extension holds that the services' files do not declare.
	Linked transcode.Resolver
}

// Catalogue is what is served. It does not change, and is safe for concurrent use.
type Catalogue struct {
	services []*Service
	methods  []*Method
	byName   map[string]*Method
	files    *protoregistry.Files
	types    *types
	plans    *transcode.Set
}

// Service is a gRPC service.
type Service struct {
	// Name is the full name: package.Service.
	Name       string
	Descriptor protoreflect.ServiceDescriptor
	// Methods are in the order of the descriptor.
	Methods []*Method
}

// Method is an RPC.
type Method struct {
	// Method is the RPC as checks see it.
	*policy.Method
	// Bindings are the HTTP bindings in the order of the option; none where it has none.
	Bindings []*Binding
	// Input and Output are the plans of the messages.
	Input, Output *transcode.Plan
}

// New reads services. The error joins everything that is wrong: a method without a rule,
// a rule that contradicts itself, a binding that cannot be served, an override of a method
// that is not there, files that contradict one another.
func New(services []protoreflect.ServiceDescriptor, o Options) (*Catalogue, error) {
	c := &Catalogue{byName: map[string]*Method{}, files: &protoregistry.Files{}}
	if err := c.addFiles(services); err != nil {
		return nil, err
	}
	c.types = newTypes(c.files, o.Linked)
	c.plans = transcode.New(transcode.Options{Types: c.types, MaxJSON: MaxJSON})
	known := map[string]bool{} // Also the methods that are wrong.
	var errs []error
	for _, sd := range services {
		s, err := c.service(sd, o.Defaults, known)
		if err != nil {
			errs = append(errs, err)
		}
		c.services, c.methods = append(c.services, s), append(c.methods, s.Methods...)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Overrides)) {
		if !known[name] {
			errs = append(errs, fmt.Errorf("methods: %s: the gateway offers no such method", name))
			continue
		}
		if m := c.byName["/"+name]; m != nil {
			if err := m.Override(o.Overrides[name]); err != nil {
				errs = append(errs, fmt.Errorf("methods: %s: %w", name, err))
			}
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return c, nil
}

// service reads the methods of a service that known does not have yet.
func (c *Catalogue) service(sd protoreflect.ServiceDescriptor, d policy.Defaults, known map[string]bool) (*Service, error) {
	s := &Service{Name: string(sd.FullName()), Descriptor: sd}
	var errs []error
	for i := range sd.Methods().Len() {
		md := sd.Methods().Get(i)
		name := s.Name + "/" + string(md.Name())
		if known[name] {
			errs = append(errs, fmt.Errorf("%s is registered twice", name))
			continue
		}
		known[name] = true
		m, err := c.method(md, d)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.Methods = append(s.Methods, m)
		c.byName[m.FullName] = m
	}
	return s, errors.Join(errs...)
}

func (c *Catalogue) method(md protoreflect.MethodDescriptor, d policy.Defaults) (*Method, error) {
	in := func(err error) error { return fmt.Errorf("%s: %w", md.ParentFile().Path(), err) }
	o, err := readOptions(md)
	if err != nil {
		return nil, in(err)
	}
	input, err := c.types.FindMessageByName(md.Input().FullName())
	if err != nil {
		return nil, in(fmt.Errorf("request of %s: %w", md.FullName(), err))
	}
	m := &Method{}
	if m.Method, err = policy.NewMethod(md, input, o.service, o.method, d); err != nil {
		return nil, err // It names the file.
	}
	if m.Input, err = c.plans.Plan(md.Input()); err != nil {
		return nil, in(fmt.Errorf("request of %s: %w", md.FullName(), err))
	}
	if m.Output, err = c.plans.Plan(md.Output()); err != nil {
		return nil, in(fmt.Errorf("response of %s: %w", md.FullName(), err))
	}
	if m.Bindings, err = c.bindings(m, o.http); err != nil {
		return nil, in(fmt.Errorf("route of %s: %w", md.FullName(), err))
	}
	return m, nil
}

// Services are all services, in the order in which New got them.
func (c *Catalogue) Services() []*Service { return c.services }

// Methods are the methods of all services, in their order.
func (c *Catalogue) Methods() []*Method { return c.methods }

// Method returns a method by its gRPC name (/package.Service/Method), or nil.
func (c *Catalogue) Method(fullName string) *Method { return c.byName[fullName] }

// Rules are Methods as checks and metrics see them.
func (c *Catalogue) Rules() []*policy.Method {
	out := make([]*policy.Method, len(c.methods))
	for i, m := range c.methods {
		out[i] = m.Method
	}
	return out
}

// Types finds what an Any or an extension holds, by full name. Where the services' own
// files declare a type, it is theirs.
func (c *Catalogue) Types() transcode.Resolver { return c.types }

// Files are the files of the services with all they import, for reflection and documents.
func (c *Catalogue) Files() *protoregistry.Files { return c.files }

// Plan returns the plan of a message of the services' files, compiled at the first call:
// keep it, where requests need it.
func (c *Catalogue) Plan(md protoreflect.MessageDescriptor) (*transcode.Plan, error) {
	return c.plans.Plan(md)
}
