// Package imports holds the rules of who may import whom (section 1 of the
// design) as a test. They are about direct imports of code that ships; tests may
// reach further.
package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sluice-gateway/sluice"

// rule forbids packages to import others. Packages are paths below the module;
// "x/..." is x and all below it. A path that starts with no directory of ours is
// somebody else's package.
type rule struct {
	packages []string
	except   []string
	never    []string
	may      []string // of never, after all
	because  string
}

var rules = []rule{
	{
		packages: []string{"gateway/rest/..."},
		never:    []string{"gateway/rpc/...", "gateway/proxy/..."},
		because:  "the edges know policy and upstream, not each other: what both need belongs there, once",
	},
	{
		packages: []string{"gateway/rpc/..."},
		never:    []string{"gateway/rest/...", "gateway/proxy/..."},
		because:  "the edges know policy and upstream, not each other: what both need belongs there, once",
	},
	{
		packages: []string{"gateway/httpedge/..."},
		never:    []string{"gateway/rest/...", "gateway/rpc/...", "gateway/proxy/...", "gateway/upstream/...", "gateway/schema/...", "gateway/transcode/..."},
		because:  "HTTP protocols stand on it, beside each other: it knows none of them, and nothing of where a call goes",
	},
	{
		packages: []string{"gateway/proxy/..."},
		never:    []string{"gateway/rest/...", "gateway/rpc/...", "gateway/upstream/..."},
		because:  "plain HTTP is a protocol beside the others: what it shares with them is gateway/httpedge and gateway/route",
	},
	{
		packages: []string{"gateway/auth/...", "gateway/limit/..."},
		except:   []string{"gateway/auth/jwks"},
		never:    []string{"net/http", "google.golang.org/grpc/metadata"},
		because:  "a check sees a policy.Call, the same from every edge; only jwks fetches",
	},
	{
		packages: []string{"gateway/frames", "gateway/listen", "gateway/handover", "gateway/tlsfile", "gateway/clientaddr"},
		never:    []string{"gateway/rest/...", "gateway/rpc/...", "gateway/httpedge/...", "gateway/route", "gateway/policy/...", "gateway/auth/...", "gateway/limit/..."},
		because:  "connections come before calls: these know bytes and addresses only",
	},
	{
		packages: []string{"gateway/resilience"},
		never:    []string{"gateway/...", "gen/...", "net/http", "google.golang.org/grpc", "google.golang.org/grpc/metadata", "google.golang.org/grpc/status"},
		because:  "breakers, budgets and limits decide from a clock and outcomes: upstream and proxy adapt them, each to its transport",
	},
	{
		packages: []string{"gateway/policy"},
		never:    []string{"gateway/...", "net/http", "google.golang.org/grpc", "google.golang.org/grpc/metadata"},
		because:  "everything depends on policy: it knows no transport, and nothing above it",
	},
	{
		packages: []string{"gateway/policy/..."},
		never:    []string{"net/http", "google.golang.org/grpc", "google.golang.org/grpc/metadata"},
		because:  "a condition sees a message and who calls, the same from every edge",
	},
	{
		packages: []string{"gateway/transcode"},
		never:    []string{"gateway/...", "aggregator/...", "services/...", "net/http", "google.golang.org/grpc", "google.golang.org/grpc/metadata"},
		because:  "a plan knows a descriptor, bytes and JSON: not who sends them, nor why",
	},
	{
		packages: []string{"gateway/schema"},
		never:    []string{"gateway", "gateway/httpedge/...", "gateway/rest/...", "gateway/rpc/...", "gateway/proxy/...", "gateway/upstream/...", "gateway/config", "net/http", "google.golang.org/grpc", "google.golang.org/grpc/metadata"},
		because:  "a catalogue is read from descriptors: it knows no transport, and everything that serves reads from it",
	},
	{
		packages: []string{"gateway/route/..."},
		never:    []string{"gateway/...", "gen/...", "net/http", "google.golang.org/protobuf/proto", "google.golang.org/genproto/googleapis/api/annotations"},
		because:  "paths are text, read alike whoever asks: which method a path belongs to, gateway/schema knows",
	},
	{
		packages: []string{"gateway/rest/request"},
		never: []string{"gateway/httpedge/...", "gateway/rest", "gateway/policy/...", "gateway/upstream/...", "gateway/config", "gateway/telemetry", "gen/...", "net/http", "google.golang.org/grpc",
			"github.com/grpc-ecosystem/grpc-gateway/v2/runtime", "google.golang.org/protobuf/reflect/protoregistry"},
		because: "a request is built from descriptors alone, which may arrive at run time: no server, no generated code, no global registry",
	},
	{
		packages: []string{"aggregator/..."},
		never:    []string{"gateway/...", "services/...", "google.golang.org/grpc"},
		may:      []string{"gateway/policy/...", "gateway/transcode", "gateway/wire"},
		because:  "a composite calls branches, as bytes, through an interface of its own, which upstream fulfils: it may know what a call is (policy), and neither who serves it nor where its branches go",
	},
	{
		packages: []string{"services/..."},
		never:    []string{"gateway/...", "aggregator/..."},
		because:  "a service runs without the gateway, and never the other way round",
	},
	{
		packages: []string{"gateway/...", "aggregator/...", "services/...", "tools/..."},
		except:   []string{"gateway", "gateway/shop", "gateway/cmd/sluice", "gateway/config", "gateway/gatewaytest", "tools/walk"},
		never:    []string{"gateway/config"},
		because:  "every other package has its own small Options: it does not change when the file's schema does",
	},
	{
		packages: []string{"gateway/..."},
		except:   []string{"gateway/shop"},
		never:    []string{"services/...", "aggregator/..."},
		because:  "the gateway serves any service: gateway/shop alone registers the shop's",
	},
	{
		packages: []string{"gateway/...", "aggregator/...", "services/..."},
		except:   []string{"gateway/gatewaytest", "gateway/gatewaytest/rawhttp2", "gateway/limit/redistest", "services/kit/kittest", "services/kit/dbtest"},
		never:    []string{"gen/sluice/test/v1", "gateway/gatewaytest/...", "gateway/limit/redistest", "gateway/portal/portaltest", "services/kit/kittest", "services/kit/dbtest"},
		because:  "the test service and the test harnesses are not in the product",
	},
}

// graph is each package's direct imports.
type graph map[string][]string

func TestImports(t *testing.T) {
	g := load(t)
	for _, r := range rules {
		for _, p := range slices.Concat(r.packages, r.except, r.never, r.may) {
			if ours(p) && len(g.match(p)) == 0 {
				t.Errorf("a rule names %s, which is gone: mend the rule (%s)", p, r.because)
			}
		}
	}
	for _, v := range violations(g, rules) {
		t.Error(v)
	}
}

// violations says every import that a rule forbids, with its reason.
func violations(g graph, rules []rule) []string {
	var out []string
	for _, r := range rules {
		for _, pkg := range g.matchAny(r.packages) {
			if slices.Contains(r.except, strings.TrimPrefix(pkg, module+"/")) {
				continue
			}
			for _, imported := range g[pkg] {
				is := func(p string) bool { return matches(p, imported) }
				if imported != pkg && !strings.HasPrefix(imported, pkg+"/") && slices.ContainsFunc(r.never, is) && !slices.ContainsFunc(r.may, is) {
					out = append(out, fmt.Sprintf("%s imports %s: %s", pkg, imported, r.because))
				}
			}
		}
	}
	return out
}

func (g graph) match(pattern string) []string { return g.matchAny([]string{pattern}) }

func (g graph) matchAny(patterns []string) []string {
	var out []string
	for pkg := range g {
		if slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) }) {
			out = append(out, pkg)
		}
	}
	slices.Sort(out)
	return out
}

func matches(pattern, pkg string) bool {
	if ours(pattern) {
		pattern = module + "/" + pattern
	}
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == tree || strings.HasPrefix(pkg, tree+"/")
	}
	return pkg == pattern
}

// ours: the path is below this module.
func ours(pattern string) bool {
	first, _, _ := strings.Cut(pattern, "/")
	return slices.Contains([]string{"aggregator", "gateway", "gen", "services", "tools"}, first)
}

func load(t *testing.T) graph {
	t.Helper()
	args := []string{"list", "-json=ImportPath,Imports", module + "/..."}
	for _, r := range rules {
		for _, p := range r.never {
			if !ours(p) { // Somebody else's package may be gone, too.
				args = append(args, p)
			}
		}
	}
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	g := graph{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return g
		} else if err != nil {
			t.Fatal(err)
		}
		g[p.ImportPath] = p.Imports
	}
}

// The rules must be able to fail.
func TestViolations(t *testing.T) {
	const m = module + "/"
	for _, c := range []struct {
		from, to string
		want     int
	}{
		{"gateway/rest", m + "gateway/rpc", 1},
		{"gateway/rest/route", m + "gateway/rpc", 1},
		{"gateway/rpc", m + "gateway/rest/route", 1},
		{"gateway/rest", m + "gateway/policy", 0},
		{"gateway/rest", m + "gateway/httpedge", 0},
		{"gateway/proxy", m + "gateway/httpedge", 0},
		{"gateway/proxy", m + "gateway/rest", 1},
		{"gateway/httpedge", m + "gateway/rest", 1},
		{"gateway/httpedge", m + "gateway/upstream", 1},
		{"gateway/route", m + "gateway/policy", 1},
		{"gateway/auth", "net/http", 1},
		{"gateway/auth", "net/http/httptrace", 0},
		{"gateway/auth/jwks", "net/http", 0},
		{"gateway/auth", "google.golang.org/grpc/metadata", 1},
		{"gateway/policy", m + "gateway/wire", 1},
		{"gateway/transcode", m + "gateway/wire", 1},
		{"gateway/rest", m + "gateway/transcode", 0},
		{"gateway/schema", m + "gateway/upstream", 1},
		{"gateway/schema", m + "gateway/route", 0},
		{"gateway/route", m + "gateway/schema", 1},
		{"aggregator", m + "gateway/upstream", 1},
		{"aggregator", m + "gateway/policy", 0},
		{"aggregator", "google.golang.org/grpc", 1},
		{"services/kit", m + "gateway/policy", 1},
		{"services/cmd/shop", m + "aggregator", 1},
		{"gateway/upstream", m + "gateway/config", 1},
		{"gateway/cmd/sluice", m + "gateway/config", 0},
		{"gateway", m + "gateway/config", 0},
		{"gateway/shop", m + "services/shop", 0},
		{"gateway", m + "services/shop", 1},
		{"gateway/cmd/sluice", m + "aggregator", 1},
		{"gateway/rest", m + "gateway/gatewaytest", 1},
		{"gateway/shop", m + "gen/sluice/test/v1", 1},
		{"gateway/gatewaytest", m + "gen/sluice/test/v1", 0},
	} {
		got := violations(graph{m + c.from: {c.to}}, rules)
		if len(got) != c.want {
			t.Errorf("%s imports %s: %q, want %d", c.from, c.to, got, c.want)
		}
	}
}
