package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// settle is longer than the five seconds in which files are looked at.
var settle = []string{"--settle", "6s"}

// TestKeysRotateUnderLoad: `sluice keys rotate` gives the gateway another key for
// its assertions, twice, and takes the old ones away, while gateway and services
// are processes of their own and calls go on: none fails.
func TestKeysRotateUnderLoad(t *testing.T) {
	t.Parallel()
	k := makeKeys(t)
	users, orders := startService(t, service{name: "user", k: k}), startService(t, service{name: "order", k: k})
	key, line := newAPIKey(t, "load", "ada", "")
	config := remote(k, map[string]*service{userService: users, orderService: orders})
	config["auth"] = object{"api_keys": object{"keys": []object{line}}}
	config["assertion"].(object)["ttl"] = "5s"
	g := startGateway(t, setup{config: config})
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	writeJSON(t, file, object{"assertion": config["assertion"]})

	var y tally
	for _, m := range []method{getUser("ada"), getOverview("ada")} {
		for _, ask := range withKey(g, key).both(m) {
			t.Cleanup(drive(t, &y, 2, 40*time.Millisecond, ask))
		}
	}
	rotate := func(args ...string) {
		t.Helper()
		args = append([]string{"keys", "rotate", "--config", file, "--public", filepath.Dir(k.public)}, args...)
		begin := time.Now()
		out, err := exec.Command(filepath.Join(programs, "sluice"), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Logf("sluice %s: %v\n%s", strings.Join(args[:2], " "), time.Since(begin).Round(time.Millisecond), out)
	}
	step := func(name string) {
		t.Helper()
		n := y.next()
		t.Logf("%s: %v", name, n)
		if n.asked == 0 || n.admitted != n.asked || n.slowest > longest {
			t.Errorf("%s: %v; %v", name, n, n.others)
		}
	}
	rotate(settle...)
	step("rotated")
	rotate(append([]string{"--retire"}, settle...)...)
	time.Sleep(6 * time.Second) // For every process to look at its files once more.
	step("rotated again, and the old keys retired")
	if n := strings.Count(g.stderr.String(), "the keys of the assertions have changed"); n < 4 {
		t.Errorf("the gateway's keys have changed %d times", n)
	}
}
