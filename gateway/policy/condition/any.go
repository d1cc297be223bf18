package condition

import (
	"errors"
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// withoutAny refuses to look into a google.protobuf.Any. CEL unpacks them, one
// within another, and copies the rest each time: 300 KB of them take seconds,
// without a step that its cost would count. Comparing messages unpacks those
// within them, too.
func withoutAny(input protoreflect.MessageDescriptor, checked *cel.Ast) error {
	for _, t := range checked.NativeRep().TypeMap() {
		if mentions(t, func(t *types.Type) bool { return t.Kind() == types.AnyKind }) {
			return errors.New("expression looks into a google.protobuf.Any: no more than has() can be asked of one")
		}
	}
	plain := messages{}
	plain.visit(input)
	plain.visit((&policyv1.Caller{}).ProtoReflect().Descriptor())
	for plain.spread() {
	}
	for _, op := range []string{operators.Equals, operators.NotEquals, operators.In} {
		for _, call := range ast.MatchDescendants(ast.NavigateAST(checked.NativeRep()), ast.FunctionMatcher(op)) {
			for _, arg := range call.AsCall().Args() {
				t := checked.NativeRep().GetType(arg.ID())
				if mentions(t, func(t *types.Type) bool { return t.Kind() == types.StructKind && !plain.without(t.TypeName()) }) {
					return fmt.Errorf("expression compares %s, which may have a google.protobuf.Any in it: compare its fields", cel.FormatCELType(t))
				}
			}
		}
	}
	return nil
}

// mentions says whether a type, or one it is made of, is such.
func mentions(t *types.Type, such func(*types.Type) bool) bool {
	if such(t) {
		return true
	}
	for _, p := range t.Parameters() {
		if mentions(p, such) {
			return true
		}
	}
	return false
}

// messages are the messages that can be reached from some, and whether an Any
// can be reached from them.
type messages map[protoreflect.FullName]*reach

type reach struct {
	md  protoreflect.MessageDescriptor
	any bool
}

func (m messages) visit(md protoreflect.MessageDescriptor) {
	if m[md.FullName()] != nil {
		return
	}
	m[md.FullName()] = &reach{md: md, any: md.FullName() == (&anypb.Any{}).ProtoReflect().Descriptor().FullName()}
	for i := range md.Fields().Len() {
		if sub := md.Fields().Get(i).Message(); sub != nil {
			m.visit(sub)
		}
	}
}

// spread passes it on from fields to their messages, by one step, and says
// whether anything is new: messages may hold themselves.
func (m messages) spread() (more bool) {
	for _, r := range m {
		for i := range r.md.Fields().Len() {
			if sub := r.md.Fields().Get(i).Message(); sub != nil && m[sub.FullName()].any && !r.any {
				r.any, more = true, true
			}
		}
	}
	return more
}

// without says that no Any is in a message. What cannot be reached was made by
// the expression, and is not known.
func (m messages) without(name string) bool {
	r := m[protoreflect.FullName(name)]
	return r != nil && !r.any
}
