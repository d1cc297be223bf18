package imports

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// nameRule forbids code that ships to name something of a package, where an import rule
// would be too coarse.
type nameRule struct {
	pkg     string // import path
	names   []string
	below   string   // the directories that the rule is about
	only    []string // those that may, below the repository's root
	because string
}

var nameRules = []nameRule{
	{
		pkg: "google.golang.org/genproto/googleapis/api/annotations", names: []string{"E_Http"}, below: ".", only: []string{"gateway/schema"},
		because: "gateway/schema is the one reader of google.api.http: a second one reads it differently",
	},
	{
		pkg: module + "/gen/sluice/policy/v1", names: []string{"E_Method", "E_Service"}, below: ".", only: []string{"gateway/schema"},
		because: "gateway/schema is the one reader of policy options: a second one reads them differently",
	},
	{
		pkg: "google.golang.org/protobuf/reflect/protoregistry", names: []string{"GlobalTypes", "GlobalFiles"}, below: "gateway", only: []string{"gateway"},
		because: "what is served need not be linked in: the catalogue has its types, and the root says what is linked",
	},
}

func TestNames(t *testing.T) {
	used := map[string]bool{} // Names that somebody may use, and does.
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{"gen", "node_modules", "third_party", ".git"}, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel("../..", path)
		if err != nil {
			return err
		}
		for _, v := range namesIn(t, path, filepath.ToSlash(filepath.Dir(rel)), used) {
			t.Error(v)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range nameRules {
		if !slices.ContainsFunc(r.names, func(n string) bool { return used[r.pkg+"."+n] }) {
			t.Errorf("a rule is about %s of %s, which nobody names: mend the rule (%s)", r.names, r.pkg, r.because)
		}
	}
}

// namesIn says every name in a file that a rule forbids there.
func namesIn(t *testing.T, path, dir string, used map[string]bool) (out []string) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	imported := map[string]string{} // paths by local name
	for _, i := range f.Imports {
		p := strings.Trim(i.Path.Value, `"`)
		name := p[strings.LastIndexByte(p, '/')+1:]
		if i.Name != nil {
			name = i.Name.Name
		}
		imported[name] = p
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		for _, r := range nameRules {
			if imported[x.Name] != r.pkg || !slices.Contains(r.names, sel.Sel.Name) || r.below != "." && dir != r.below && !strings.HasPrefix(dir, r.below+"/") {
				continue
			}
			if slices.Contains(r.only, dir) {
				used[r.pkg+"."+sel.Sel.Name] = true
				continue
			}
			out = append(out, fset.Position(sel.Pos()).String()+": "+sel.Sel.Name+": "+r.because)
		}
		return true
	})
	return out
}
