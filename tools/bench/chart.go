package main

import (
	"bytes"
	_ "embed"
	"encoding/xml"
	"fmt"
	"strings"
	"text/template"
)

//go:embed chart.tmpl
var chartText string

// Sizes of the chart, in its own units. A bar of length 1 is the peer's CPU.
const (
	chartWidth = 760
	barsLeft   = 285
	unit       = 305
	longest    = 1.2 // bars are cut there
	barHeight  = 14
	barStep    = 17
	groupGap   = 16
	chartTop   = 58
)

type chartGroup struct {
	Title string
	Y     int // baseline of the title
	Bars  []chartBar
	Marks []chartMark
}

type chartBar struct {
	Y, Width int
	Class    string // color
	Label    string
	LabelX   int
}

// chartMark is a target, over the first bar.
type chartMark struct {
	X, Y1, Y2 int
	Class     string
}

// chart draws CPU per request of every work, as shares of the peer's.
func (r *result) chart() ([]byte, error) {
	var groups []chartGroup
	y := chartTop
	for _, w := range r.Works {
		g := chartGroup{Title: w.Title, Y: y + barHeight - 3}
		base := w.Peers[1].closed(measurement.cpuPerRequest)
		for _, target := range []struct {
			at    float64
			class string
		}{{w.Must, "must"}, {w.Aim, "aim"}} {
			if target.at > 0 {
				g.Marks = append(g.Marks, chartMark{X: barsLeft + int(target.at*unit), Y1: y - 3, Y2: y + barHeight + 3, Class: target.class})
			}
		}
		for i, p := range w.Peers {
			cpu := p.closed(measurement.cpuPerRequest)
			b := chartBar{Y: y, Width: max(int(min(cpu/base, longest)*unit), 1), Class: []string{"sluice", "peer", "floor"}[min(i, 2)]}
			b.Label, b.LabelX = fmt.Sprintf("%s %.1f µs", p.Name, cpu), barsLeft+b.Width+6
			for _, m := range g.Marks { // A mark under the text would strike it through.
				if i == 0 && m.X > b.LabelX-8 {
					b.LabelX = max(b.LabelX, m.X+6)
				}
			}
			g.Bars = append(g.Bars, b)
			y += barStep
		}
		groups = append(groups, g)
		y += groupGap
	}
	var out bytes.Buffer
	t, err := template.New("chart").Funcs(template.FuncMap{"xml": escape, "plus": func(a, b int) int { return a + b }}).Parse(chartText)
	if err != nil {
		return nil, err
	}
	err = t.Execute(&out, map[string]any{
		"Width": chartWidth, "Height": y + 10, "Left": barsLeft, "BarHeight": barHeight, "Groups": groups,
		"Foot": fmt.Sprintf("%s, %d cores, %s, commit %s", r.Machine.CPU, r.Machine.Cores, r.Machine.Go, r.Machine.Commit),
	})
	return out.Bytes(), err
}

func escape(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}
