package condition

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

// literalPatterns refuses patterns that the request could choose.
func literalPatterns(checked *cel.Ast) error {
	root := ast.NavigateAST(checked.NativeRep())
	for _, call := range ast.MatchDescendants(root, ast.FunctionMatcher(overloads.Matches)) {
		args := call.AsCall().Args()
		if len(args) == 0 || args[len(args)-1].Kind() != ast.LiteralKind {
			return errors.New("the pattern of matches must be a literal")
		}
		pattern, _ := args[len(args)-1].AsLiteral().Value().(string)
		if err := smallPattern(pattern); err != nil {
			return err
		}
	}
	return nil
}

// smallPattern bounds a pattern as RE2 runs it, which takes time in proportion
// to its instructions: `(a{1,40}){1,20}` is short, and has many. cel-go's own
// RegexProgramSizeLimit panics on repetitions (v0.32.0).
func smallPattern(pattern string) error {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return fmt.Errorf("pattern %q: %w", pattern, err)
	}
	compiled, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return fmt.Errorf("pattern %q: %w", pattern, err)
	}
	if n := len(compiled.Inst); n > maxRegexp {
		return fmt.Errorf("pattern %q has %d instructions, more than %d", pattern, n, maxRegexp)
	}
	return nil
}

// boundedMatches compiles the patterns of `matches` once, and holds them against
// short texts only. CEL counts what a call costs when it is over, by the length
// of the pattern's text: 40 characters of pattern can be 400 instructions, and
// take seconds over a megabyte.
func boundedMatches() cel.ProgramOption {
	var both []*interpreter.RegexOptimization
	for _, overload := range []string{overloads.Matches, overloads.MatchesString} { // By overload it comes before cel-go's own.
		both = append(both, &interpreter.RegexOptimization{Function: overloads.Matches, OverloadID: overload, RegexIndex: 1, Factory: matchesCall})
	}
	return cel.OptimizeRegex(both...)
}

func matchesCall(call interpreter.InterpretableCall, pattern string) (interpreter.InterpretableCall, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(args ...ref.Val) ref.Val {
		if len(args) != 2 {
			return types.NoSuchOverloadErr()
		}
		text, ok := args[0].(types.String)
		if !ok {
			return types.MaybeNoSuchOverloadErr(args[0])
		}
		if len(text) > MaxMatchBytes {
			return types.NewErr("text of %d bytes for matches, more than %d", len(text), MaxMatchBytes)
		}
		return types.Bool(re.MatchString(string(text)))
	}), nil
}
