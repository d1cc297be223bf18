package errordocs

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// named are the limits that listeners and edges report as refusing, such as
// `url_bytes`, with a place. They are what is given to a function named Refused
// or refuse, and the constants of those names.
func named(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	limit := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	found := map[string]string{}
	for _, dir := range dirs {
		p := newPackage(t, filepath.FromSlash(dir))
		for name, value := range p.consts {
			if (strings.HasPrefix(name, "limit") || strings.HasPrefix(name, "Limit")) && limit.MatchString(value) {
				found[value] = dir
			}
		}
		p.functions(func(fn *ast.FuncDecl) {
			ast.Inspect(fn, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) == 0 || (!strings.EqualFold(nameOf(call.Fun), "refuse") && nameOf(call.Fun) != "Refused") {
					return true
				}
				if text, ok := literal(call.Args[0]); ok {
					found[text] = p.fset.Position(call.Pos()).String()
				}
				return true
			})
		})
	}
	return found
}

// Every limit that sluice_refused_total can name is in the last column of a row
// of docs/limits.md.
func TestEveryLimitIsDocumented(t *testing.T) {
	raw, err := os.ReadFile(filepath.FromSlash("../../docs/limits.md"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, line := range strings.Split(string(raw), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 7 { // Five columns between bars.
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[5], -1) {
			seen[m[1]] = true
		}
	}
	inSource := named(t, "../../gateway/frames", "../../gateway/httpedge", "../../gateway/listen", "../../gateway/rest", "../../gateway/rpc")
	for name, at := range inSource {
		if !seen[name] {
			t.Errorf("%s: limit %s is not in docs/limits.md", at, name)
		}
	}
	for _, name := range []string{"connections", "http2_frames", "http2_unfinished", "proxy_header", "url_bytes", "decoded_body_bytes", "message_bytes"} {
		if inSource[name] == "" {
			t.Errorf("limit %s was not found in the source: is this test still looking?", name)
		}
	}
	// And the other way round, for what looks like such a name.
	bare := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	for name := range seen {
		if bare.MatchString(name) && !strings.HasPrefix(name, "sluice_") && inSource[name] == "" {
			t.Errorf("docs/limits.md names the limit %s, which nothing refuses by", name)
		}
	}
}
