package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// settle is longer than the five seconds in which files are looked at.
const settle = "6s"

// TestKeysRotateUnderLoad: `sluice keys rotate` gives the gateway another key for
// its assertions, and takes the old one away, while gateway and services
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
			t.Cleanup(drive(t, &y, 2, 100*time.Millisecond, ask))
		}
	}
	rotate := exec.Command(filepath.Join(programs, "sluice"), "keys", "rotate", "--retire", "--settle", settle, "--config", file, "--public", filepath.Dir(k.public))
	begin := time.Now()
	out, err := rotate.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("sluice keys rotate: %v\n%s", time.Since(begin).Round(time.Millisecond), out)
	eventually(t, patience, func() error { // Added, promoted, retired.
		if n := strings.Count(g.stderr.String(), "the keys of the assertions have changed"); n != 3 {
			return fmt.Errorf("the gateway's keys have changed %d times", n)
		}
		return nil
	})
	for _, s := range []*service{users, orders} {
		eventually(t, patience, func() error {
			// The order of keys is nothing to a service: one more, then one less.
			if n := strings.Count(s.stderr.String(), "the assertion keys have changed"); n < 2 {
				return fmt.Errorf("the keys of service %s have changed %d times", s.name, n)
			}
			return nil
		})
	}
	time.Sleep(time.Second) // Of calls with the new key alone.
	n := y.next()
	t.Log(n)
	if n.admitted != n.asked || n.asked == 0 {
		t.Errorf("%v; %v", n, n.others)
	}
}
