package condition

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/overloads"
	"google.golang.org/protobuf/reflect/protoreflect"

	policyv1 "github.com/sluice-gateway/sluice/gen/sluice/policy/v1"
)

// The variables of an expression.
const (
	variableRequest   = "request"
	variablePrincipal = "principal"
)

const (
	// MaxExpressionBytes bounds the text of an expression.
	MaxExpressionBytes = 4 << 10
	// CostLimit bounds an evaluation, in CEL's units of cost: about one a step, and
	// one for ten bytes of a string that is gone through.
	CostLimit = 10_000

	// MaxMatchBytes bounds the text that a pattern is held against.
	MaxMatchBytes = 8 << 10

	maxNesting     = 2   // of loops: over lists of lists, no deeper
	maxRegexp      = 500 // instructions of a compiled pattern
	interruptEvery = 1   // steps of a loop between looks at the clock: one may go through the whole request

	// openCost is less than any estimate in which a size is open has: CEL takes
	// those for 2^64, and a tenth of that for a string that is gone through.
	openCost = 1 << 56
)

var validID = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// Program is a compiled condition. It does not change, and is safe for
// concurrent use.
type Program struct {
	id, expression string
	input          protoreflect.MessageType // Generated or dynamic.
	program        cel.Program
	// loops says that the expression goes through lists or maps of the request, so
	// that its time is bounded, too.
	loops bool
}

// ID is the name of the condition.
func (p *Program) ID() string { return p.id }

// Expression is the text it was compiled from.
func (p *Program) Expression() string { return p.expression }

// Compile compiles an expression over input and a caller, and checks its types:
// a misspelt field is an error here, with its line and column, as is what could
// never be evaluated within CostLimit.
func Compile(input protoreflect.MessageType, id, expression string) (*Program, error) {
	if !validID.MatchString(id) {
		return nil, fmt.Errorf("condition %q: id must be 1 to 63 of a-z, 0-9, - and _, a letter first", id)
	}
	p := &Program{id: id, expression: expression, input: input}
	if err := p.compile(input.Descriptor()); err != nil {
		return nil, fmt.Errorf("condition %q: %w", id, err)
	}
	return p, nil
}

func (p *Program) compile(input protoreflect.MessageDescriptor) (err error) {
	defer func() {
		if v := recover(); v != nil { // A library's mistake is no reason to die without saying where.
			err = fmt.Errorf("expression cannot be compiled: %v", v)
		}
	}()
	switch {
	case strings.TrimSpace(p.expression) == "":
		return errors.New("expression is empty")
	case len(p.expression) > MaxExpressionBytes:
		return fmt.Errorf("expression has %d bytes, more than %d", len(p.expression), MaxExpressionBytes)
	}
	e, err := environment(p.input)
	if err != nil {
		return err
	}
	checked, issues := e.CompileSource(common.NewStringSource(p.expression, p.id))
	if issues.Err() != nil {
		return issues.Err()
	}
	if out := checked.OutputType(); !out.IsExactType(cel.BoolType) {
		return fmt.Errorf("expression is of type %s, not bool", cel.FormatCELType(out))
	}
	if err := literalPatterns(checked); err != nil {
		return err
	}
	if err := withoutAny(input, checked); err != nil {
		return err
	}
	if err := affordable(e, checked); err != nil {
		return err
	}
	root := ast.NavigateAST(checked.NativeRep())
	p.loops = len(ast.MatchDescendants(root, ast.KindMatcher(ast.ComprehensionKind))) > 0
	opts := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize), cel.CostLimit(CostLimit), boundedMatches()}
	if p.loops {
		opts = append(opts, cel.InterruptCheckFrequency(interruptEvery))
	}
	p.program, err = e.Program(checked, opts...)
	return err
}

// environment is what expressions over a message can name.
func environment(mt protoreflect.MessageType) (*cel.Env, error) {
	input := mt.Descriptor()
	return cel.NewCustomEnv(
		cel.StdLib(cel.StdLibSubset(env.NewLibrarySubset().AddExcludedFunctions(env.NewFunction(overloads.TypeConvertDyn)))),
		cel.Types(mt.Zero().Interface(), &policyv1.Caller{}),
		// Enums and messages of the request's own package go by their short names.
		cel.Container(string(input.ParentFile().Package())),
		cel.Variable(variableRequest, cel.ObjectType(string(input.FullName()))),
		cel.Variable(variablePrincipal, cel.ObjectType(string((&policyv1.Caller{}).ProtoReflect().Descriptor().FullName()))),
		cel.ParserExpressionSizeLimit(MaxExpressionBytes),
		cel.DefaultUTCTimeZone(true),
		cel.EagerlyValidateDeclarations(true),
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals(),
			cel.ValidateHomogeneousAggregateLiterals(), cel.ValidateComprehensionNestingLimit(maxNesting)),
	)
}

// affordable refuses what cannot be evaluated within CostLimit. Where the cost
// depends on the request, its least counts here, and the limit at run time.
func affordable(e *cel.Env, checked *cel.Ast) error {
	cost, err := e.EstimateCost(checked, unknownSizes{})
	if err != nil {
		return fmt.Errorf("estimate its cost: %w", err)
	}
	if cost.Min > CostLimit || (cost.Max > CostLimit && cost.Max < openCost) {
		return fmt.Errorf("expression costs %d to %d units, more than the %d that a call may take", cost.Min, cost.Max, CostLimit)
	}
	return nil
}

// unknownSizes leaves the sizes of a request's fields open.
type unknownSizes struct{}

func (unknownSizes) EstimateSize(checker.AstNode) *checker.SizeEstimate { return nil }

func (unknownSizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
