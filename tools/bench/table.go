package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// table is figures with a heading, for the terminal and for Markdown.
type table struct {
	Title string
	head  []string
	rows  [][]string
}

func (t table) text(out io.Writer) error {
	_, _ = fmt.Fprintf(out, "\n%s\n", t.Title) // Flush says what went wrong.
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{t.head}, t.rows...) {
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// Markdown is the table as Markdown, without its title.
func (t table) Markdown() string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.head)
	line(strings.Split(strings.Repeat("---,", len(t.head)-1)+"---", ","))
	for _, row := range t.rows {
		line(row)
	}
	return b.String()
}

// Tables are the whole result.
func (r *result) Tables() []table {
	return []table{r.targets(), r.closedLoop(), r.openLoop()}
}

func (r *result) targets() table {
	t := table{
		Title: "CPU per request of the gateway's process against its peer, closed loop: medians, ratio of medians (least–most of a round)",
		head:  []string{"work", "sluice", "peer", "floor", "ratio", "must", "aim", ""},
	}
	for _, w := range r.Works {
		floor := "–"
		if len(w.Peers) > 2 {
			floor = us(w.Peers[2].closed(measurement.cpuPerRequest))
		}
		t.rows = append(t.rows, []string{
			w.Title, us(w.Peers[0].closed(measurement.cpuPerRequest)),
			us(w.Peers[1].closed(measurement.cpuPerRequest)) + " " + w.Peers[1].Name, floor,
			w.CPU.String(), target(w.Must), target(w.Aim), string(w.Verdict),
		})
	}
	if x := r.Routing; x != nil {
		t.rows = append(t.rows, []string{
			"routing, 5,000 routes against 10", fmt.Sprintf("%.0f ns", x.Many), fmt.Sprintf("%.0f ns", x.Few), "–",
			fmt.Sprintf("%.2f", x.Ratio), target(x.Must), "–", string(x.Verdict),
		})
	}
	return t
}

func (r *result) closedLoop() table {
	t := table{
		Title: fmt.Sprintf("Closed loop: %d connections, each asks again as soon as it is answered; medians of %d rounds", r.Conns, r.Rounds),
		head:  []string{"work", "of", "requests/s", "p50", "p99", "p99.9", "allocations/request", "allocated/request", "resident"},
	}
	for _, w := range r.Works {
		for _, p := range w.Peers {
			t.rows = append(t.rows, []string{
				w.Title, p.Name, fmt.Sprintf("%.0f", p.closed(measurement.throughput)),
				ms(p.closed(measurement.p50)), ms(p.closed(measurement.p99)), ms(p.closed(measurement.p999)),
				fmt.Sprintf("%.0f", p.closed(measurement.allocsPerRequest)), fmt.Sprintf("%.1f KiB", p.closed(measurement.bytesPerRequest)/1024),
				fmt.Sprintf("%.0f MiB", p.closed(measurement.rssMiB)),
			})
		}
	}
	return t
}

func (r *result) openLoop() table {
	t := table{
		Title: fmt.Sprintf("Open loop: a constant rate, %.0f%% of what the slower of Sluice and its peer can do; latency from when a request was due", openShare*100),
		head:  []string{"work", "of", "rate", "CPU/request", "p50", "p99", "p99.9", "load late, p99"},
	}
	for _, w := range r.Works {
		for _, p := range w.Peers {
			t.rows = append(t.rows, []string{
				w.Title, p.Name, fmt.Sprintf("%.0f/s", p.open(func(m measurement) float64 { return m.Rate })), us(p.open(measurement.cpuPerRequest)),
				ms(p.open(measurement.p50)), ms(p.open(measurement.p99)), ms(p.open(measurement.p999)),
				ms(p.open(func(m measurement) float64 { return micros(m.LateP99) })),
			})
		}
	}
	return t
}

func us(v float64) string { return fmt.Sprintf("%.1f µs", v) }

// ms writes microseconds as milliseconds.
func ms(us float64) string {
	return fmt.Sprintf("%.2f ms", us*float64(time.Microsecond)/float64(time.Millisecond))
}

func target(v float64) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", v)
}
