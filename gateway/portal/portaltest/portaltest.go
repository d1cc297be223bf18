// Package portaltest drives the documentation page, and the operators', in a real
// browser, as a reader would: it looks at the operations, opens one, fills it in and executes
// it. Tests of gateway/portal and of the whole gateway use it. The browser's halves
// are in tools/browser.
package portaltest

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// timeout is far more than a run takes (about 3 s): a loaded machine starts a
// browser slowly.
const timeout = 2 * time.Minute

// Call is the operation to execute and what to fill in.
type Call struct {
	// Method is the verb. Default GET.
	Method string `json:"method"`
	// Path is the operation's path as the document has it, such as
	// /v1/users/{user_id}.
	Path string `json:"path"`
	// Params are the parameters by name.
	Params map[string]string `json:"params"`
	// Body replaces the example of a JSON body, when it is not empty.
	Body string `json:"body"`
	// File is a file to send as a binary body, when it is not empty.
	File string `json:"file"`
	// Token is entered in the Authorize dialogue, when it is not empty.
	Token string `json:"token"`
	// Screenshot is a PNG file to write after the call, of what is in view, when it
	// is not empty.
	Screenshot string `json:"screenshot"`
}

// Operation is one operation that the page shows.
type Operation struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	ID     string `json:"id"`
}

// Result is what a reader of the page has seen, and what the browser has noticed.
type Result struct {
	// Title is the page's.
	Title string `json:"title"`
	// Operations are those the page lists, in its order.
	Operations []Operation `json:"operations"`
	// Status is the HTTP status that the page shows for the call.
	Status int `json:"status"`
	// ContentType and Body are those of the answer on the wire.
	ContentType string `json:"contentType"`
	Body        string `json:"body"`
	// Shown is the answer's body as the page shows it.
	Shown string `json:"shown"`
	// Failed are requests that did not get an answer; External are URLs of other
	// origins that the page asked for (none was let out); Errors are what the
	// console said, violations of the Content-Security-Policy among it.
	Failed   []string `json:"failed"`
	External []string `json:"external"`
	Errors   []string `json:"errors"`
}

// Drive opens base + "/docs" in Chromium, executes the call and returns what it
// has seen; base is such as http://127.0.0.1:8080. Where Chromium, Node.js or
// playwright-core is missing the test is skipped, or fails when CI=true.
func Drive(t testing.TB, base string, call Call) Result {
	t.Helper()
	if call.Method == "" {
		call.Method = "GET"
	}
	var out Result
	run(t, "docs.mjs", func(browser string) any {
		return struct {
			Call
			Base       string `json:"base"`
			Executable string `json:"executable"`
		}{call, base, browser}
	}, &out)
	return out
}

// AdminPage is what an operator has seen of the admin listener's page.
type AdminPage struct {
	// URL is where the page is, Text all that it shows.
	URL  string `json:"url"`
	Text string `json:"text"`
	// Bold counts elements that no code of ours makes.
	Bold int `json:"bold"`
	// Filtered counts the routes shown for `cancelorder`.
	Filtered int `json:"filtered"`
	// Trouble is what the page says went wrong.
	Trouble string `json:"trouble"`
	// Errors and External are as in Result.
	Errors   []string `json:"errors"`
	External []string `json:"external"`
}

// DriveAdmin opens the admin listener at base in Chromium, as an operator who types
// its address; act changes the log level, opens the first breaker and reloads. A
// screenshot is a PNG file to write, when it is not empty.
func DriveAdmin(t testing.TB, base string, act bool, screenshot string) AdminPage {
	t.Helper()
	var out AdminPage
	run(t, "admin.mjs", func(browser string) any {
		return map[string]any{"base": base, "executable": browser, "act": act, "screenshot": screenshot}
	}, &out)
	return out
}

// run gives a script its input, which names the browser, and reads what it prints.
func run(t testing.TB, script string, input func(browser string) any, out any) {
	t.Helper()
	root := moduleRoot(t)
	browser := require(t, "chromium", "chromium-browser")
	node := require(t, "node")
	if _, err := os.Stat(filepath.Join(root, "node_modules", "playwright-core")); err != nil {
		missing(t, "playwright-core (make deps-test)")
	}
	in, err := json.Marshal(input(browser))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, node, filepath.Join(root, "tools", "browser", script))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &stdout, &stderr
	// The script closes its browser when it is told to end, and is killed when it
	// does not.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, stderr.String())
	}
	if err := json.Unmarshal(stdout.Bytes(), out); err != nil {
		t.Fatalf("%s printed %q: %v", script, stdout.String(), err)
	}
}

// require finds the first of the programs that there is.
func require(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, names[0])
	return ""
}

// missing skips on a developer's machine and fails where CI=true: there, a test
// that did not run proves nothing.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", what)
	}
	t.Skipf("%s is not installed", what)
}

// moduleRoot is the directory of go.mod, above the test's package.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("there is no go.mod above the test's directory")
		}
		dir = parent
	}
}
