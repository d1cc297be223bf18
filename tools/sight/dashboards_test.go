package sight

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// dashboard is as much of Grafana's model as there is something to hold to.
type dashboard struct {
	file          string
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Type, Definition string
			Query                  any
		}
	}
	Annotations struct{ List []struct{ Expr string } }
	Panels      []panel
}

type panel struct {
	ID          int
	Type, Title string
	Datasource  struct{ Type, UID string }
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct {
		Datasource  struct{ Type, UID string }
		RefID, Expr string
	}
}

func dashboards(t *testing.T) (all []dashboard) {
	t.Helper()
	files, err := filepath.Glob(filepath.FromSlash("../../deploy/grafana/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal("no dashboards", err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		d := dashboard{file: filepath.Base(f)}
		if err := json.Unmarshal(raw, &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all = append(all, d)
	}
	return all
}

// TestDashboards: what Grafana 10 and later need to load a dashboard is there, and no
// data source of ours is written into it.
func TestDashboards(t *testing.T) {
	uids, titles, known := map[string]bool{}, map[string]bool{}, documented(t)
	for _, d := range dashboards(t) {
		if d.UID == "" || len(d.UID) > 40 || uids[d.UID] || titles[d.Title] || d.SchemaVersion < 38 {
			t.Errorf("%s: uid %q, title %q, schemaVersion %d", d.file, d.UID, d.Title, d.SchemaVersion)
		}
		uids[d.UID], titles[d.Title] = true, true
		if v := d.Templating.List; len(v) == 0 || v[0].Name != "datasource" || v[0].Type != "datasource" || v[0].Query != "prometheus" {
			t.Errorf("%s: the first variable must be the data source", d.file)
		}
		ids, taken := map[int]bool{}, map[[2]int]string{}
		for _, p := range d.Panels {
			where := d.file + ": " + p.Title
			if p.Title == "" || ids[p.ID] {
				t.Errorf("%s: id %d is empty or there twice", where, p.ID)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if x >= 24 || taken[[2]int{x, y}] != "" {
						t.Fatalf("%s lies over %q, or over the edge", where, taken[[2]int{x, y}])
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			if p.Type != "row" && len(p.Targets) == 0 {
				t.Errorf("%s shows nothing", where)
			}
			for _, q := range p.Targets {
				if p.Datasource.UID != "${datasource}" || q.Datasource.UID != "${datasource}" || q.Datasource.Type != "prometheus" {
					t.Errorf("%s: data source %q", where, q.Datasource.UID)
				}
				exist(t, known, where, q.Expr)
			}
		}
	}
}

// empty are the expressions that a gateway in good order gives no data for, with the
// reason.
var empty = map[string]string{
	"process.json: Memory C": "GOMEMLIMIT is not set in a test: only `sluice serve` in a container has it",
}

var variable = regexp.MustCompile(`\$\{?(__rate_interval|[a-z]+)\}?`)

// filled puts in what Grafana would for everything and a short time.
func filled(expr string) string {
	return variable.ReplaceAllStringFunc(expr, func(v string) string {
		if strings.Contains(v, "__rate_interval") {
			return "1m"
		}
		return ".*"
	})
}

// TestDashboardsShowSomething evaluates every expression of every dashboard by a real
// Prometheus that has scraped real gateways under a little load: each is PromQL, and
// has data. The same Prometheus has loaded the alert rules and kept the exemplars.
func TestDashboardsShowSomething(t *testing.T) {
	f := startFleet(t)
	p := startPrometheus(t, f.shared.AdminURL, f.alone.AdminURL)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		f.use(t)
	}
	// Prometheus may have missed its first scrapes of gateways on a busy machine: what is
	// to have data has a minute, in all, to get it.
	patient := time.Now().Add(time.Minute)
	data := func(expr string) (n int, err error) {
		for {
			if n, err = p.query(t, expr); err != nil || n > 0 || time.Now().After(patient) {
				return n, err
			}
			f.use(t)
			time.Sleep(200 * time.Millisecond)
		}
	}
	unseen := map[string]bool{}
	for where := range empty {
		unseen[where] = true
	}
	for _, d := range dashboards(t) {
		for _, a := range d.Annotations.List {
			if _, err := p.query(t, filled(a.Expr)); err != nil {
				t.Errorf("%s: annotation: %v", d.file, err)
			}
		}
		for _, panel := range d.Panels {
			for _, q := range panel.Targets {
				where := d.file + ": " + panel.Title + " " + q.RefID
				ask := data
				if empty[where] != "" {
					ask = func(expr string) (int, error) { return p.query(t, expr) }
				}
				n, err := ask(filled(q.Expr))
				delete(unseen, where)
				switch reason := empty[where]; {
				case err != nil:
					t.Errorf("%s: %v\n%s", where, err, q.Expr)
				case n == 0 && reason == "":
					t.Errorf("%s has no data: %s", where, q.Expr)
				case n > 0 && reason != "":
					t.Errorf("%s has data, and is listed as empty: %s", where, reason)
				}
			}
		}
		for _, v := range d.Templating.List[1:] {
			metric, label, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(v.Definition, "label_values("), ")"), "}, ")
			if label != "" {
				metric += "}"
			} else {
				metric, label, _ = strings.Cut(metric, ", ")
			}
			if n, err := data("count by (" + label + ") (" + filled(metric) + ")"); err != nil || n == 0 {
				t.Errorf("%s: variable %s has no values: %v", d.file, v.Name, err)
			}
		}
	}
	for where := range unseen {
		t.Errorf("%s is listed as empty, and is not there", where)
	}
	t.Run("rules", func(t *testing.T) { p.rulesAreWell(t) })
	t.Run("exemplars", func(t *testing.T) { p.hasExemplars(t) })
}

// rulesAreWell checks that Prometheus could evaluate every rule with what it scraped.
func (p *prometheus) rulesAreWell(t *testing.T) {
	want := len(rules(t))
	p.until(t, "all rules evaluated", func() bool {
		var data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
		if err := p.get(t, "rules", nil, &data); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				if r.Health == "err" {
					t.Fatalf("%s: %s", r.Name, r.LastError)
				}
				if r.Health == "ok" {
					n++
				}
			}
		}
		return n == want
	})
}

// hasExemplars checks that times of requests and of services name traces.
func (p *prometheus) hasExemplars(t *testing.T) {
	for _, name := range []string{"sluice_request_duration_seconds_bucket", "sluice_upstream_duration_seconds_bucket"} {
		var data []struct {
			Exemplars []struct{ Labels map[string]string }
		}
		now := time.Now()
		q := url.Values{"query": {name}, "start": {now.Add(-time.Minute).Format(time.RFC3339)}, "end": {now.Add(time.Minute).Format(time.RFC3339)}}
		if err := p.get(t, "query_exemplars", q, &data); err != nil {
			t.Fatal(err)
		}
		if len(data) == 0 || len(data[0].Exemplars) == 0 || len(data[0].Exemplars[0].Labels["trace_id"]) != 32 {
			t.Errorf("%s: no exemplars with a trace: %+v", name, data)
		}
	}
}
