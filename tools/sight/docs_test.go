package sight

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/sluice-gateway/sluice/gateway/gatewaytest"
)

// metric is one as a page or a gateway describes it.
type metric struct {
	kind   string
	labels string // sorted, with a comma between
}

// exposed reads the gateway's own metrics from its admin listener.
func exposed(t *testing.T, g *gatewaytest.Gateway) map[string]metric {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.AdminURL+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res.Status, err)
	}
	out := map[string]metric{}
	for name, f := range families {
		if !strings.HasPrefix(name, "sluice_") {
			continue
		}
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		out[name] = metric{strings.ToLower(dto.MetricType_name[int32(f.GetType())]), strings.Join(slices.Sorted(maps.Keys(labels)), ", ")}
	}
	return out
}

var rowOf = regexp.MustCompile("(?m)^\\| `(sluice_[a-z_]+)` \\| (counter|gauge|histogram) \\| ([a-z_, ]*) ?\\| ([^|]*) \\| ([^|]+) \\|$")

// documented reads the tables of docs/metrics.md.
func documented(t *testing.T) map[string]metric {
	t.Helper()
	raw, err := os.ReadFile(filepath.FromSlash("../../docs/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]metric{}
	for _, m := range rowOf.FindAllStringSubmatch(string(raw), -1) {
		name, labels, unit := m[1], strings.Split(strings.TrimSpace(m[3]), ", "), m[4]
		slices.Sort(labels)
		if _, twice := out[name]; twice {
			t.Errorf("%s stands there twice", name)
		}
		out[name] = metric{m[2], strings.Join(labels, ", ")}
		for suffix, of := range map[string]string{"_seconds": "seconds", "_bytes": "bytes"} {
			if strings.HasSuffix(name, suffix) && !strings.Contains(unit, of) && !strings.Contains(unit, "Unix time") {
				t.Errorf("%s: unit %q", name, unit)
			}
		}
		if strings.HasSuffix(name, "_total") != (m[2] == "counter") {
			t.Errorf("%s is a %s: counters end in _total, and nothing else does", name, m[2])
		}
	}
	if lines := strings.Count(string(raw), "\n| `sluice_"); lines != len(out) {
		t.Errorf("%d rows name a metric, %d of them as | name | type | labels | unit | meaning |", lines, len(out))
	}
	return out
}

// TestEveryMetricIsDocumented: names, types and labels of docs/metrics.md are those of
// running gateways with every feature on, and the other way round.
func TestEveryMetricIsDocumented(t *testing.T) {
	f := startFleet(t)
	f.use(t)
	want := documented(t)
	var got map[string]metric
	complete := func() bool { // Discovery and Redis have their first answer at their own time.
		got = exposed(t, f.alone)
		maps.Copy(got, exposed(t, f.shared))
		return len(got) >= len(want)
	}
	for end := time.Now().Add(20 * time.Second); !complete() && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		switch have, ok := want[name]; {
		case !ok:
			t.Errorf("%s (%s; %s) is not in docs/metrics.md", name, got[name].kind, got[name].labels)
		case have != got[name]:
			t.Errorf("%s is %+v, in docs/metrics.md %+v", name, got[name], have)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is in docs/metrics.md, and no gateway exposes it", name)
		}
	}
}
