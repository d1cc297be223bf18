package sight

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	rulesFile = "../../deploy/prometheus/alerts.yml"
	rulesTest = "../../deploy/prometheus/tests/alerts.yml"
)

// program is the path of one that Debian's package prometheus has.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed; tools/deps.sh installs it", name)
		}
		t.Skipf("%s is not installed; tools/deps.sh installs it", name)
	}
	return path
}

// TestRules: the alert rules are rules, and each fires when it should and does not
// otherwise.
func TestRules(t *testing.T) {
	promtool := program(t, "promtool")
	for _, args := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", rulesTest}} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

type rule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	readYAML(t, rulesFile, &file)
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no rules")
	}
	return all
}

func readYAML(t *testing.T, file string, v any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.FromSlash(file))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, v); err != nil {
		t.Fatal(err)
	}
}

// TestRulesSayWhatToDo: each alert has all that who is woken by it needs, is tried
// both ways, and goes by metrics that exist.
func TestRulesSayWhatToDo(t *testing.T) {
	var tried struct {
		Tests []struct {
			Rules []struct {
				Alert string `yaml:"alertname"`
				Want  []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, rulesTest, &tried)
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range tried.Tests {
		for _, r := range test.Rules {
			if len(r.Want) > 0 {
				fires[r.Alert] = true
			} else {
				quiet[r.Alert] = true
			}
		}
	}
	page, err := os.ReadFile(filepath.FromSlash("../../docs/operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := documented(t)
	for _, r := range rules(t) {
		if !fires[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s: tried firing %t, quiet %t", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) || r.Annotations["summary"] == "" || r.Annotations["action"] == "" {
			t.Errorf("%s: severity %q, annotations %q", r.Alert, r.Labels["severity"], r.Annotations)
		}
		if !strings.Contains(string(page), "`"+r.Alert+"`") {
			t.Errorf("%s is not in docs/operations.md", r.Alert)
		}
		linked(t, r)
		exist(t, known, r.Alert, r.Expr)
	}
}

// linked checks that the runbook is a heading of a page of ours.
func linked(t *testing.T, r rule) {
	t.Helper()
	_, page, ok := strings.Cut(r.Annotations["runbook_url"], "/blob/main/")
	file, anchor, ok2 := strings.Cut(page, "#")
	if !ok || !ok2 {
		t.Errorf("%s: runbook_url %q", r.Alert, r.Annotations["runbook_url"])
		return
	}
	raw, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(file)))
	if err != nil {
		t.Errorf("%s: %v", r.Alert, err)
		return
	}
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "#") && anchorOf(line) == anchor {
			return
		}
	}
	t.Errorf("%s: %s has no heading %q", r.Alert, file, anchor)
}

var noAnchor = regexp.MustCompile("[^a-z0-9 _-]")

// anchorOf is the anchor that GitHub gives a heading.
func anchorOf(line string) string {
	text := strings.ToLower(strings.TrimSpace(strings.TrimLeft(line, "#")))
	return strings.ReplaceAll(noAnchor.ReplaceAllString(text, ""), " ", "-")
}

var ours = regexp.MustCompile(`\bsluice_[a-z_]+`)

// exist checks that an expression goes by metrics that docs/metrics.md has, which
// another test holds to gateways.
func exist(t *testing.T, known map[string]metric, where, expr string) {
	t.Helper()
	for _, name := range ours.FindAllString(expr, -1) {
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && known[base].kind == "histogram" {
				name = base
			}
		}
		if _, ok := known[name]; !ok {
			t.Errorf("%s: there is no metric %s among %d", where, name, len(slices.Collect(maps.Keys(known))))
		}
	}
}
