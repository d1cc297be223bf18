package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const placed = `upstreams:
  shop.T:
    target: x
    canaries:
      - {name: next, target: y}
http_routes:
  - name: pay
    match: {regex: "("}
  - name: "a: b"
    upstream: pages
methods:
  a.b.C/D:
    requestHeaders: {set: {x: password=hunter2}}
`

// TestLocate: an error that begins with a key has the key's place, as far as it is in the
// file.
func TestLocate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(path, []byte(placed), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"upstreams: shop.T: target: bad":                      ":3:5: ",
		"upstreams: shop.T: canaries: next: target: bad":      ":5:22: ",
		"upstreams: shop.T: canaries[0].target: bad":          ":5:22: ",
		"upstreams: shop.U: bad":                              ":1:1: ",
		"upstreams.shop: bad":                                 ": upstreams.shop: bad",
		"http_routes: pay: match.regex: bad":                  ":8:13: ",
		"http_routes[1].upstream: bad":                        ":10:5: ",
		"http_routes[7].upstream: bad":                        ": http_routes[7].upstream: bad",
		"methods: a.b.C/D: request_headers: set: x: bad":      ":13:28: ",
		"methods: a.b.C/D: request_headers: no such thing: b": ":13:5: ",
		"no key: bad": ": no key: bad",
		"":            ": ",
		"methods: a.b.C/D: request_headers: token=hunter2: no": ":13:5: ",
	} {
		err := fmt.Errorf("methods: a: %w", errors.New("z")) // Another, joined.
		got := Locate(path, errors.Join(errors.New(text), err)).Error()
		if !strings.Contains(got, path+want) || !strings.Contains(got, path+":11:1: methods: a: z") || strings.Contains(got, "hunter2") {
			t.Errorf("%q: %s", text, got)
		}
	}
	plain := errors.New("upstreams: bad")
	for _, name := range []string{"", path + ".gone"} {
		if got := Locate(name, plain); got != plain { //nolint:errorlint // The same, not alike.
			t.Errorf("%q: %v", name, got)
		}
	}
	if err := Locate(path, plain); !errors.Is(err, plain) || Locate(path, nil) != nil {
		t.Error(err)
	}
}

// TestUnknownName: a misspelt name is answered with the one that is meant, or with what
// there is.
func TestUnknownName(t *testing.T) {
	known := []string{"shop.user.v1.UserService", "shop.order.v1.OrderService"}
	for name, want := range map[string]string{
		"shop.user.v1.UserServce":  `unknown service "shop.user.v1.UserServce"; did you mean "shop.user.v1.UserService"?`,
		"shop.user.v1.userservice": `unknown service "shop.user.v1.userservice"; did you mean "shop.user.v1.UserService"?`,
		"other.T":                  `unknown service "other.T"; expected one of: shop.order.v1.OrderService, shop.user.v1.UserService`,
	} {
		if got := UnknownName("service", name, known); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := UnknownName("service", "x", nil); got != `unknown service "x"; there is none` {
		t.Error(got)
	}
	for pair, want := range map[[2]string]int{{"", ""}: 0, {"a", ""}: 1, {"", "ab"}: 2, {"read", "raed"}: 1, {"kitten", "sitting"}: 3, {"same", "same"}: 0} {
		if got := distance(pair[0], pair[1]); got != want {
			t.Errorf("%q: %d", pair, got)
		}
	}
}

// TestErrorsHideValuesOfRules: an error on a line with a secret of a rule shows neither the
// line nor the value, whatever is wrong there, and whoever finds it.
func TestErrorsHideValuesOfRules(t *testing.T) {
	const route = "http_routes:\n  - name: r\n    upstream: up\n    match: {prefix: /r}\n    require: {public: true}\n"
	for name, text := range map[string]string{
		"a key twice":         "    request_headers: {set: {X-Key: hunter2, X-Key: hunter2}}\n",
		"a number":            "    request_headers:\n      set:\n        X-Key: 4711\n",
		"a list":              "    request_headers:\n      add: [hunter2]\n",
		"a block":             "    request_json:\n      set:\n        a: |\n          hunter2\n        a: hunter2\n",
		"a match":             "    match: {prefix: /r, headers: [{name: X-Key, value: [hunter2]}]}\n",
		"an unknown key":      "    request_headers: {set: {X-Key: hunter2}, sett: {X-Key: 4711}}\n",
		"the route's own key": "    request_headers: {set: {X-Key: hunter2}}\n    request_headers: {set: {X-Key: hunter2}}\n",
	} {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(route+text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Check(path)
		if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(strings.ReplaceAll(err.Error(), "sett", ""), "4711") {
			t.Errorf("%s: %v", name, err)
		}
		located := Locate(path, errors.New("http_routes: r: request_headers: set: X-Key: bad"))
		if strings.Contains(located.Error(), "hunter2") || strings.Contains(located.Error(), "4711") {
			t.Errorf("%s: %v", name, located)
		}
	}
}
