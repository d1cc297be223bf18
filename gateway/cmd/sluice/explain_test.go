package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/auth"
)

// elsewhere runs a command where there is nothing, and checks that there is
// nothing afterwards.
func elsewhere(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("SLUICE_DATA_DIR", filepath.Join(dir, "data"))
	t.Setenv("SLUICE_CONFIG", "")
	t.Setenv("TMPDIR", filepath.Join(dir, "tmp"))
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if path != dir && path != filepath.Join(dir, "tmp") {
				t.Errorf("left behind: %s", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestRoutes(t *testing.T) {
	elsewhere(t)
	var text, doc strings.Builder
	if err := printRoutes(nil, &text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"GET       /v1/users/{user_id} ", "shop.bff.v1.BffService/GetUserOverview", "read*3", "\nLIMIT ", "AdvanceOrder"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, text.String())
		}
	}
	if err := printRoutes([]string{"--format", "json"}, &doc); err != nil {
		t.Fatal(err)
	}
	var got struct{ Routes []admin.Route }
	if err := json.Unmarshal([]byte(doc.String()), &got); err != nil {
		t.Fatal(err)
	}
	// A line each, below the heading.
	if n := strings.Count(strings.Split(text.String(), "\n\n")[0], "\n"); len(got.Routes) == 0 || n != len(got.Routes) {
		t.Errorf("%d routes in JSON, %d in the table", len(got.Routes), n)
	}
	for _, args := range [][]string{{"--format", "yaml"}, {"--config", "nope.yaml"}, {"extra"}} {
		if err := printRoutes(args, &doc); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

func TestExplain(t *testing.T) {
	elsewhere(t)
	for name, tc := range map[string]struct {
		args string
		want []string
	}{
		"REST":         {"GET /v1/users/ada --subject ada --scope users.read", []string{"upstream   shop.user.v1.UserService/GetUser", "200 OK"}},
		"flags first":  {"--subject ada --scope users.read GET /v1/users/ada", []string{"200 OK"}},
		"wrong owner":  {"GET /v1/users/ada --subject grace --scope users.read", []string{"NOT_OWNER", "403 Forbidden"}},
		"gRPC":         {`shop.user.v1.UserService/GetUser --subject ada --scope users.read --data {"user_id":"ada"}`, []string{`{"userId":"ada"}`, "a success is OK"}},
		"header, from": {"GET /v1/users/ada --from 2001:db8::1 -H Authorization:x", []string{"from 2001:db8::1", "401 Unauthorized"}},
		"JSON":         {"GET /v1/nothing --format json", []string{`"status": "404 Not Found"`, `"refused": true`}},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := printExplanation(strings.Fields(tc.args), strings.NewReader(""), &out); err != nil {
				t.Fatal(err)
			}
			for _, want := range tc.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("does not say %q:\n%s", want, out.String())
				}
			}
		})
	}
	for name, tc := range map[string]struct{ args, want string }{
		"nothing":              {"", "usage: sluice explain"},
		"a path alone":         {"/v1/users/ada", "usage: sluice explain"},
		"three words":          {"GET /v1 /v2", "usage: sluice explain"},
		"a path without slash": {"GET v1/users", "usage: sluice explain"},
		"scope of nobody":      {"GET / --scope a", "--subject"},
		"bad address":          {"GET / --from here", "--from"},
		"bad format":           {"GET / --format xml", "--format"},
		"bad header":           {"GET / -H x", "a colon"},
		"two from stdin":       {"GET / --token - --api-key -", "cannot both"},
		"an empty stdin":       {"GET / --token -", "--token: there is nothing in it"},
		"no such file":         {"GET / --api-key @nope", "--api-key: open nope"},
		"a huge file":          {"GET / --api-key @/dev/zero", "--api-key: more than 65536 bytes"},
		"no configuration":     {"GET / --config nope.yaml", "nope.yaml"},
	} {
		if err := printExplanation(strings.Fields(tc.args), strings.NewReader(""), &strings.Builder{}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// TestExplainReadsCredentials: from a file or standard input, so that they need
// not stand on the command line.
func TestExplainReadsCredentials(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SLUICE_DATA_DIR", dir)
	write := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	dev, err := auth.OpenDevKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	token, err := dev.Mint("ada", []string{"users.read"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	key, stored, err := auth.NewAPIKey(auth.APIKey{ID: "ci", Owner: "ada", Scopes: []string{"users.read"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SLUICE_CONFIG", write("c.yaml", "auth: {api_keys: {keys: [{id: ci, hash: '"+stored.Hash+"', owner: ada, scopes: [users.read]}]}}\n"))
	tokenFile, keyFile := write("token", token+"\n"), write("key", " "+key+"\r\n")
	for args, tc := range map[string]struct{ in, want string }{
		"--token @" + tokenFile:             {"", "200 OK"},
		"--token -":                         {token + "\n", "200 OK"},
		"--token " + token:                  {"", "200 OK"},
		"--api-key @" + keyFile:             {"", "200 OK"},
		"--api-key -":                       {key, "200 OK"},
		"--token - --api-key @" + keyFile:   {token, "200 OK"},
		"--token @" + keyFile:               {"", "401 Unauthorized"},
		"--api-key -" + " --from 192.0.2.1": {key + "x", "401 Unauthorized"},
	} {
		var out strings.Builder
		if err := printExplanation(append([]string{"GET", "/v1/users/ada", "--demo"}, strings.Fields(args)...), strings.NewReader(tc.in), &out); err != nil {
			t.Errorf("%s: %v", args, err)
		} else if !strings.Contains(out.String(), tc.want) || strings.Contains(out.String(), key) || strings.Contains(out.String(), token) {
			t.Errorf("%s: want %s and no secret:\n%s", args, tc.want, out.String())
		}
	}
}
