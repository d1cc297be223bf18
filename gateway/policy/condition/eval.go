package condition

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// evalTime bounds an evaluation that loops. CEL's cost takes some operations
// for cheap that go through a long value, and a loop repeats them.
const evalTime = 50 * time.Millisecond

// maxDepth bounds the nesting of a request on the wire: what parsers in other
// languages take by default, and more than REST lets in.
const maxDepth = 100

// ErrMalformed says that a request is not a valid message on the wire.
var ErrMalformed = errors.New("malformed message")

// Parse reads a request from its wire form, for Eval of this and of every other condition
// over the same message. Extensions stay unread: no expression can name one. The error is
// ErrMalformed.
func (p *Program) Parse(wire []byte) (_ proto.Message, err error) {
	defer func() {
		if recover() != nil { // dynamicpb, on a map's key that comes again with another wire type.
			err = ErrMalformed
		}
	}()
	m := p.input.New().Interface()
	if err := (proto.UnmarshalOptions{RecursionLimit: maxDepth, Resolver: (*protoregistry.Types)(nil)}).Unmarshal(wire, m); err != nil {
		return nil, ErrMalformed
	}
	return m, nil
}

// Eval says whether the condition holds for a request and its caller. An error
// (a key that is not there, an overflow, CostLimit) is no yes: whoever asks
// refuses.
func (p *Program) Eval(ctx context.Context, request proto.Message, caller *policyv1.Caller) (bool, error) {
	vars := variables{request: request, principal: caller}
	if !p.loops {
		out, _, err := p.program.Eval(vars)
		return isTrue(out, err)
	}
	ctx, cancel := context.WithTimeout(ctx, evalTime)
	defer cancel()
	out, _, err := p.program.ContextEval(ctx, vars)
	return isTrue(out, err)
}

// maxError bounds the text of an error, which is for a log: CEL puts values of
// the request into it, however long.
const maxError = 256

func isTrue(out ref.Val, err error) (bool, error) {
	if err != nil {
		if text := err.Error(); len(text) > maxError {
			err = errors.New(strings.ToValidUTF8(text[:maxError], "") + "…")
		}
		return false, err
	}
	yes, ok := out.(types.Bool)
	if !ok { // The type checker rules it out.
		return false, fmt.Errorf("evaluated to %T, not bool", out)
	}
	return bool(yes), nil
}

// variables are what the expression names.
type variables struct {
	request   proto.Message
	principal *policyv1.Caller
}

// ResolveName implements cel.Activation.
func (v variables) ResolveName(name string) (any, bool) {
	switch name {
	case variableRequest:
		return v.request, true
	case variablePrincipal:
		return v.principal, true
	}
	return nil, false
}

// Parent implements cel.Activation.
func (v variables) Parent() cel.Activation { return nil }
