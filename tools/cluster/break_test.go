package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	mended := time.Now()
	at := func(d time.Duration, kind int) failure { return failure{mended.Add(d), kind, "503"} }
	for _, c := range []struct {
		name string
		out  outcome
		want []string // in the error; none means that all is well
	}{
		{"no failure", outcome{}, nil},
		{"allowed, before the return", outcome{fault: fault{may: []int{postOrder}}, failures: []failure{at(-time.Second, postOrder)}}, nil},
		{"allowed, soon after", outcome{fault: fault{may: []int{postOrder}}, failures: []failure{at(time.Second, postOrder)}}, nil},
		{"allowed, too late", outcome{fault: fault{may: []int{postOrder}}, failures: []failure{at(3*time.Second, postOrder)}}, []string{"failed 3.0 s after the return"}},
		{"of another kind", outcome{fault: fault{may: []int{postOrder}}, failures: []failure{at(-time.Second, getUser)}}, []string{"a client saw GET user: 503"}},
		{"told once", outcome{failures: []failure{at(-2, getUser), at(-1, getUser)}}, []string{"a client saw GET user: 503"}},
		{"in use too late", outcome{whole: 3 * time.Second}, []string{"only 3.0 s after the return"}},
		{"in use late, as it may", outcome{fault: fault{inUse: 4 * time.Second}, whole: 3 * time.Second}, nil},
	} {
		c.out.mended = mended
		err := c.out.judge(2 * time.Second)
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, want := range c.want {
			if n := strings.Count(err.Error(), want); n != 1 {
				t.Errorf("%s: %q stands %d times in %q", c.name, want, n, err)
			}
		}
	}
}

func TestRow(t *testing.T) {
	o := outcome{fault: fault{name: "x"}, sent: 10, movedOn: 2, partial: 1, slowest: 30 * time.Millisecond, whole: 200 * time.Millisecond,
		failures: []failure{{kind: postOrder, why: "503"}, {kind: getUser, why: "504"}, {kind: postOrder, why: "503"}}}
	o.mended = o.failures[0].at.Add(-time.Second)
	const want = "| x | 10 | 1× GET user 504, 2× POST order 503 | 2 | 1 | 0.03 s | 1.0 s | 0.2 s |"
	if got := o.row(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestWrite(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	put := func(s string) {
		if err := os.WriteFile(page, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("before\n" + begin + "old\n" + end + "after\n")
	for range 2 {
		if err := write(page, "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(page)
	if want := "before\n" + begin + "new\n" + end + "after\n"; err != nil || string(raw) != want {
		t.Errorf("%q, %v; want %q", raw, err, want)
	}
	put("no place")
	if err := write(page, "new\n"); err == nil {
		t.Error("a page without a place for the table is written")
	}
}

// TestThePageHasAPlaceForTheTable: make cluster-test takes minutes, and would only
// then say that it has nowhere to write.
func TestThePageHasAPlaceForTheTable(t *testing.T) {
	raw, err := os.ReadFile("../../docs/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := write(page, ""); err != nil {
		t.Error(err)
	}
	for _, f := range new(cluster).withParts().faults() {
		if !strings.Contains(string(raw), "| "+f.name+" | ") {
			t.Errorf("the table has no line for %q: run make cluster-test", f.name)
		}
	}
}

// withParts fills in parts that never run.
func (c *cluster) withParts() *cluster {
	c.redis, c.etcd, c.postgres = &part{}, &part{}, &database{part: &part{}}
	c.services = map[string][2]*part{}
	for _, s := range shop {
		c.services[s.short] = [2]*part{{}, {}}
	}
	c.gateways = [2]*gateway{{part: &part{}}, {part: &part{}}}
	return c
}

func TestParseMetrics(t *testing.T) {
	got, err := parse([]byte("# HELP a b\n# TYPE a gauge\na 1\nb{x=\"1\",y=\"a \\\"quoted\\\" {one}\"} 2.5 1700000000\n\n"))
	if err != nil || len(got) != 2 || got[0].name != "a" || got[0].value != 1 ||
		got[1].labels["x"] != "1" || got[1].labels["y"] != `a \"quoted\" {one}` || got[1].value != 2.5 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"{", "a b", "a{x=\"1\"}"} {
		if _, err := parse([]byte(bad)); err == nil {
			t.Errorf("%q is read as a sample", bad)
		}
	}
}
