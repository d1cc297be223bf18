package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stderrOf is what f prints on standard error.
func stderrOf(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stderr
	os.Stderr = w
	f()
	os.Stderr = before
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestHelp: --help of any command is its usage and no failure, whatever else the command
// does with a name; a switch is not shown as if it took a value.
func TestHelp(t *testing.T) {
	for _, c := range commands() {
		for _, flag := range []string{"--help", "-h"} {
			var err error
			out := stderrOf(t, func() { err = run(append(strings.Fields(c.name), flag)) })
			if err != nil || !strings.Contains(strings.ToLower(out), "usage") || !strings.Contains(out, c.name) {
				t.Errorf("%s %s: %v\n%s", c.name, flag, err, out)
			}
			for line := range strings.Lines(out) {
				if rest, is := strings.CutPrefix(strings.TrimSpace(line), "-demo"); is && strings.TrimSpace(rest) != "" {
					t.Errorf("%s: --demo is shown with a value: %s", c.name, line)
				}
			}
		}
	}
	for _, args := range [][]string{{"config", "--help"}, {"apikey", "-h"}, {"--help"}, nil} {
		var err error
		out := stderrOf(t, func() { err = run(args) })
		if err != nil || !strings.Contains(out, "usage:") {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
		if len(args) == 2 && (!strings.Contains(out, "sluice "+args[0]) || strings.Contains(out, "sluice serve")) {
			t.Errorf("%q: %s", args, out)
		}
	}
	var err error
	stderrOf(t, func() { err = run([]string{"config", "chek", "x"}) })
	if err == nil || !strings.Contains(err.Error(), `no command "config chek"`) {
		t.Error(err)
	}
}

// TestCeilingsHaveLines: what is beyond one is refused at its own place; a rule, which is in
// no file, at the ceiling's.
func TestCeilingsHaveLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	text := `grpc:
  max_message_bytes: 1500000
  max_call_time: 2h
defaults:
  deadline: 3h
methods:
  shop.user.v1.UserService/GetUser: {max_request_bytes: 1500001}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"config", "check", path}, {"routes", "--config", path}} {
		err := run(args)
		for _, want := range []string{
			path + `:2:3: grpc: max_message_bytes: 1500000 is less than the max_request_bytes of 2097152 in the rule of shop.profile.v1.ProfileService/`,
			path + `:5:3: defaults: deadline: 3h0m0s is more than grpc.max_call_time, 2h0m0s`,
			path + `:7:38: methods: shop.user.v1.UserService/GetUser: max_request_bytes: 1500001 is more than grpc.max_message_bytes, 1500000`,
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v\nwant %s", args, err, want)
			}
		}
	}
}

// TestConfigCheckHasLines: what only the gateway can find has its line, and the name that
// is probably meant.
func TestConfigCheckHasLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	text := `upstreams:
  shop.user.v1.UserServce: {target: "dns:///x:1"}
  shop.order.v1.OrderService:
    target: "dnss:///x:1"
methods:
  shop.user.v1.UserService/GetUsr: {max_request_bytes: 10}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"config", "check", path}, {"serve", "--config", path}, {"routes", "--config", path}} {
		err := run(args)
		for _, want := range []string{
			path + `:2:3: upstreams: shop.user.v1.UserServce: unknown service "shop.user.v1.UserServce"; did you mean "shop.user.v1.UserService"?`,
			path + `:4:5: upstreams: shop.order.v1.OrderService: target: "dnss:///x:1": has an unknown scheme`,
			path + `:6:3: methods: shop.user.v1.UserService/GetUsr: unknown method "shop.user.v1.UserService/GetUsr"; did you mean "shop.user.v1.UserService/GetUser"?`,
		} {
			if args[0] != "config" && !strings.Contains(want, ":6:3:") {
				continue // They stop at the first step that fails.
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v\nwant %s", args, err, want)
			}
		}
	}
}
