package errordocs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// reasons returns, by domain and reason, a place where the source below the
// directories makes an ErrorInfo of them. A reason that it cannot tell from the
// source alone is a failure.
func reasons(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.FromSlash(dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				newPackage(t, path).reasons(found)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// pkg is a directory's code without its tests.
type pkg struct {
	t     *testing.T
	fset  *token.FileSet
	files []*ast.File
	// consts are the values of constants of the package that are strings.
	consts map[string]string
}

func newPackage(t *testing.T, dir string) *pkg {
	t.Helper()
	p := &pkg{t: t, fset: token.NewFileSet(), consts: map[string]string{}}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(p.fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		p.files = append(p.files, f)
		ast.Inspect(f, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok {
				for i, name := range v.Names {
					if i < len(v.Values) {
						if text, ok := literal(v.Values[i]); ok {
							p.consts[name.Name] = text
						}
					}
				}
			}
			return true
		})
	}
	return p
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

func (p *pkg) reasons(found map[string]string) {
	p.functions(func(fn *ast.FuncDecl) {
		ast.Inspect(fn, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && nameOf(call.Fun) == "EdgeError" { // Of httpedge, also from elsewhere.
				for _, v := range p.values(fn, call.Args[2], map[*ast.FuncDecl]bool{}) {
					found["sluice "+v] = p.fset.Position(call.Pos()).String()
				}
				return true
			}
			lit, ok := n.(*ast.CompositeLit)
			if !ok || nameOf(lit.Type) != "ErrorInfo" {
				return true
			}
			reason, domain := field(lit, "Reason"), p.domain(field(lit, "Domain"))
			if domain == "" {
				return true // Passed on from elsewhere, or to be compared with.
			}
			for _, v := range p.values(fn, reason, map[*ast.FuncDecl]bool{}) {
				found[domain+" "+v] = p.fset.Position(lit.Pos()).String()
			}
			return true
		})
	})
}

func (p *pkg) functions(do func(*ast.FuncDecl)) {
	for _, f := range p.files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				do(fn)
			}
		}
	}
}

// nameOf is the last part of a name, qualified or not.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func field(lit *ast.CompositeLit, name string) ast.Expr {
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok && nameOf(kv.Key) == name {
			return kv.Value
		}
	}
	return nil
}

// domain is the value of a domain: a constant's, or policy.ErrorDomain.
func (p *pkg) domain(e ast.Expr) string {
	if text, ok := literal(e); ok {
		return text
	}
	if name := nameOf(e); name == "ErrorDomain" {
		return "sluice"
	} else if name != "" {
		return p.consts[name]
	}
	return ""
}

// values are those that an expression within fn can have: a literal, a constant,
// what a variable is set to, what callers in the package give for a parameter.
func (p *pkg) values(fn *ast.FuncDecl, e ast.Expr, seen map[*ast.FuncDecl]bool) []string {
	if text, ok := literal(e); ok {
		return []string{text}
	}
	name := nameOf(e)
	if text, ok := p.consts[name]; ok {
		return []string{text}
	}
	if at := parameter(fn, name); at >= 0 {
		if seen[fn] {
			return nil
		}
		seen[fn] = true
		out := p.given(fn.Name.Name, at, seen)
		if len(out) == 0 {
			p.t.Errorf("%s: nobody in the package says what %s is", p.fset.Position(fn.Pos()), name)
		}
		return out
	}
	var out []string
	ast.Inspect(fn, func(n ast.Node) bool {
		if set, ok := n.(*ast.AssignStmt); ok && len(set.Lhs) == len(set.Rhs) {
			for i, left := range set.Lhs {
				if name != "" && nameOf(left) == name {
					out = append(out, p.values(fn, set.Rhs[i], seen)...)
				}
			}
		}
		return true
	})
	if len(out) == 0 {
		p.t.Errorf("%s: cannot tell which reason this is: use a constant", p.fset.Position(fn.Pos()))
	}
	return out
}

// parameter is the position of a parameter, or -1.
func parameter(fn *ast.FuncDecl, name string) int {
	at := 0
	for _, f := range fn.Type.Params.List {
		for _, n := range f.Names {
			if n.Name == name {
				return at
			}
			at++
		}
	}
	return -1
}

// given are the values that calls of a function of the package give at a position.
func (p *pkg) given(name string, at int, seen map[*ast.FuncDecl]bool) []string {
	var out []string
	p.functions(func(caller *ast.FuncDecl) {
		ast.Inspect(caller, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && nameOf(call.Fun) == name && at < len(call.Args) {
				out = append(out, p.values(caller, call.Args[at], seen)...)
			}
			return true
		})
	})
	return out
}
