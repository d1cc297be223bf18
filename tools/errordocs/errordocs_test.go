// Package errordocs holds docs/errors.md to the source: every reason that an
// error of ours carries (google.rpc.ErrorInfo) stands there, and no other.
package errordocs

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/code"
)

const page = "../../docs/errors.md"

// row is a line of the tables of reasons.
type row struct {
	domain, reason, status, code string
}

var rowOf = regexp.MustCompile("(?m)^\\| `([A-Z0-9_]+)` \\| ([0-9]{3}|none) \\| `([A-Z_]+)` \\|")

// documented reads the tables below the headings that name a domain.
func documented(t *testing.T) []row {
	t.Helper()
	raw, err := os.ReadFile(filepath.FromSlash(page))
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	for _, section := range strings.Split(string(raw), "\n## ")[1:] {
		heading, body, _ := strings.Cut(section, "\n")
		_, domain, ok := strings.Cut(heading, "domain `")
		for _, m := range rowOf.FindAllStringSubmatch(body, -1) {
			if !ok {
				t.Fatalf("%s: a reason below %q, which names no domain", m[1], heading)
			}
			rows = append(rows, row{strings.TrimSuffix(domain, "`"), m[1], m[2], m[3]})
		}
	}
	return rows
}

func TestEveryReasonIsDocumented(t *testing.T) {
	inSource := reasons(t, "../../gateway", "../../aggregator", "../../services")
	inPage := map[string]bool{}
	for _, r := range documented(t) {
		key := r.domain + " " + r.reason
		if inPage[key] {
			t.Errorf("%s is documented twice", key)
		}
		inPage[key] = true
		if inSource[key] == "" {
			t.Errorf("%s is documented, and no code gives it", key)
		}
		if code.Code_value[r.code] == 0 {
			t.Errorf("%s: %s is no gRPC code of an error", key, r.code)
		}
	}
	for key, at := range inSource {
		if !inPage[key] {
			t.Errorf("%s: %s is not in docs/errors.md", at, key)
		}
	}
	// The places where reasons are made are found in several ways; none may fail
	// unseen.
	for _, key := range []string{"sluice SCOPE_MISSING", "sluice TOKEN_EXPIRED", "sluice BAD_UPSTREAM_RESPONSE", "sluice METHOD_NOT_ALLOWED", "shop STALE_ETAG"} {
		if inSource[key] == "" {
			t.Errorf("%s was not found in the source: is this test still looking?", key)
		}
	}
}

// The bodies that the page shows are problems as gateway/rest writes them, and
// agree with the page's tables.
func TestExamples(t *testing.T) {
	raw, err := os.ReadFile(filepath.FromSlash(page))
	if err != nil {
		t.Fatal(err)
	}
	rows := documented(t)
	blocks := strings.Split(string(raw), "```json\n")[1:]
	if len(blocks) < 5 {
		t.Fatalf("%d examples", len(blocks))
	}
	for _, block := range blocks {
		text, _, _ := strings.Cut(block, "```")
		var p struct {
			Type, Title, Detail, Code string
			Status                    int
			RequestID                 string `json:"request_id"`
			Details                   []struct {
				Type           string `json:"@type"`
				Reason, Domain string
				Metadata       map[string]string
				RetryDelay     string
			}
			Errors []struct{ Field, Reason string }
		}
		dec := json.NewDecoder(strings.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&p); err != nil {
			t.Errorf("%v in\n%s", err, text)
			continue
		}
		if p.Type != "about:blank" || p.Title != http.StatusText(p.Status) || code.Code_value[p.Code] == 0 || p.RequestID == "" {
			t.Errorf("not a problem of ours:\n%s", text)
		}
		for _, d := range p.Details {
			if !strings.HasSuffix(d.Type, ".ErrorInfo") {
				continue
			}
			if !slices.ContainsFunc(rows, func(r row) bool {
				return r.domain == d.Domain && r.reason == d.Reason && r.code == p.Code && r.status == strconv.Itoa(p.Status)
			}) {
				t.Errorf("the tables do not say %s %s, %d %s", d.Domain, d.Reason, p.Status, p.Code)
			}
		}
	}
}
