package config

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// TestEveryKeyIsDocumented walks the schema: each leaf, and each message whose
// absence means something, is a row of docs/configuration.md, and the other way
// round.
func TestEveryKeyIsDocumented(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z][^`]*)` \\|").FindAllStringSubmatch(string(raw), -1) {
		documented[m[1]] = true
	}
	known := map[string]bool{}
	var walk func(prefix string, md protoreflect.MessageDescriptor)
	walk = func(prefix string, md protoreflect.MessageDescriptor) {
		for i := range md.Fields().Len() {
			fd := md.Fields().Get(i)
			path, inner := prefix+string(fd.Name()), fd.Message()
			known[path] = true
			suffix := "."
			switch {
			case fd.IsMap():
				inner, suffix = fd.MapValue().Message(), ".*."
			case fd.IsList():
				suffix = "[]."
			}
			leaf := inner == nil || inner.ParentFile().Package() == "google.protobuf"
			// Their absence means something.
			absent := slices.Contains([]protoreflect.Name{"tls", "cors", "redis", "client_address", "api_keys", "oidc_discovery", "health_check", "shadow"}, fd.Name())
			if (leaf || fd.IsMap() || fd.IsList() || absent) && !documented[path] {
				t.Errorf("%s is not documented", path)
			}
			if !leaf && !elsewhere(path, inner) {
				walk(path+suffix, inner)
			}
		}
	}
	walk("", (&configv1.Config{}).ProtoReflect().Descriptor())
	for path := range documented {
		if !known[path] {
			t.Errorf("%s is documented, and is no key", path)
		}
	}
}

// elsewhere says whether the keys of a message stand at another place of the page,
// or of docs/policy.md.
func elsewhere(path string, md protoreflect.MessageDescriptor) bool {
	if md.ParentFile().Package() != "sluice.config.v1" {
		return true
	}
	at, ok := map[protoreflect.Name]string{
		"Resilience": "resilience", "Tls": "upstreams.*.tls", "Endpoint": "upstreams.*.endpoints", "Balancing": "upstreams.*.balancing",
		"Canary": "upstreams.*.canaries", "Shadow": "upstreams.*.shadow", "HeaderRules": "http_routes[].request_headers",
	}[md.Name()]
	return ok && path != at
}

func TestTheDocumentedFileIsGood(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(raw), "```yaml\n")
	if len(blocks) < 2 {
		t.Fatal("no YAML in the page")
	}
	for _, block := range blocks[1:] {
		text, _, _ := strings.Cut(block, "```")
		path := filepath.Join(t.TempDir(), "sluice.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Check(path); err != nil {
			t.Error(err)
		}
	}
}
