package resilience

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestOutlier(t *testing.T) {
	for _, c := range []struct {
		name    string
		options OutlierOptions
		ids     string
		// steps are of: fail X N, ok X N, wait D, out IDS (exactly these are), set IDS.
		steps string
	}{
		{"failures in a row", OutlierOptions{}, "a b c d", "fail a 4; out; ok a 1; fail a 4; out; fail a 1; out a"},
		{"others are not meant", OutlierOptions{}, "a b", "fail a 4; ok b 5; fail a 1; out a"},
		{"back after a second", OutlierOptions{}, "a b", "fail a 5; out a; wait 999ms; out a; wait 1ms; out"},
		{"the first call back decides", OutlierOptions{}, "a b", "fail a 5; wait 1s; out; fail a 1; out a; wait 1s; out a; wait 1s; out; ok a 1; fail a 4; out; fail a 1; out a"},
		{"results from before count for nothing while it is out", OutlierOptions{}, "a b c d", "fail a 5; ok a 1; fail a 9; wait 1s; out; fail a 1; out a"},
		{"longer each time, and no longer than the most", OutlierOptions{BaseEjection: time.Second, MaxEjection: 3 * time.Second}, "a b",
			"fail a 5; wait 1s; out; fail a 1; wait 1999ms; out a; wait 1ms; out; fail a 1; wait 2999ms; out a; wait 1ms; out; fail a 1; wait 2999ms; out a; wait 1ms; out"},
		{"time in service is forgiven", OutlierOptions{MaxEjection: 10 * time.Second}, "a b",
			"fail a 5; wait 1s; fail a 1; wait 2s; ok a 1; wait 20s; fail a 5; out a; wait 999ms; out a; wait 1ms; out"},
		{"half at most", OutlierOptions{}, "a b c d", "fail a 5; fail b 5; fail c 50; out a b; wait 1s; out; fail c 1; out c"},
		{"one may always be out", OutlierOptions{MaxEjectedPercent: 10}, "a b c", "fail a 5; fail b 5; out a"},
		{"one always stays", OutlierOptions{MaxEjectedPercent: 100}, "a b c", "fail a 5; fail b 5; fail c 5; out a b"},
		{"the only one stays", OutlierOptions{MaxEjectedPercent: 100}, "a", "fail a 500; out"},
		{"unknown backends are nobody", OutlierOptions{}, "a b", "fail x 50; out"},
		{"it goes on when others come and go", OutlierOptions{}, "a b", "fail a 5; set a b c d; out a; set b c; out; set a b c; out; fail a 4; out; fail a 1; out a"},
		{"those that are left must not be out", OutlierOptions{}, "a b c d", "fail a 5; wait 100ms; fail b 5; out a b; set a b; out b; set b; out"},
		{"off", OutlierOptions{Off: true}, "a b", "fail a 50; out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := newClock()
			o := NewOutlier(c.options, at.now)
			o.Update(strings.Fields(c.ids))
			for i, step := range strings.Split(c.steps, "; ") {
				if err := outlierStep(o, at, strings.Fields(step)); err != nil {
					t.Fatalf("step %d, %q: %v", i+1, step, err)
				}
			}
		})
	}
}

func outlierStep(o *Outlier, at *clock, f []string) error {
	switch f[0] {
	case "fail", "ok":
		var n int
		if _, err := fmt.Sscan(f[2], &n); err != nil {
			return err
		}
		for range n {
			before := o.Ejected(f[1])
			if now := o.Report(f[1], f[0] == "ok"); now != (o.Ejected(f[1]) && !before) {
				return fmt.Errorf("Report says %v", now)
			}
		}
	case "wait":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			return err
		}
		at.advance(d)
	case "out":
		var got []string
		for _, b := range o.Backends() {
			if out := o.Ejected(b.ID); out != b.EjectedUntil.After(at.at) {
				return fmt.Errorf("%s: Ejected says %v, Backends until %v", b.ID, out, b.EjectedUntil)
			} else if out {
				got = append(got, b.ID)
			}
		}
		if strings.Join(got, " ") != strings.Join(f[1:], " ") {
			return fmt.Errorf("%v are out", got)
		}
	case "set":
		o.Update(f[1:])
	default:
		return fmt.Errorf("no such step")
	}
	return nil
}
