package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// result is a whole comparison.
type result struct {
	When     time.Time     `json:"when"`
	Command  string        `json:"command"`
	Machine  machine       `json:"machine"`
	Conns    int           `json:"connections"`
	Rounds   int           `json:"rounds"`
	Duration time.Duration `json:"duration_ns"` // of a run
	Spans    int64         `json:"spans"`       // that Sluice sent meanwhile
	Works    []workResult  `json:"works"`
	Routing  *routing      `json:"routing,omitempty"`
}

// The files of a directory of results.
const (
	resultFile = "results.json"
	soakFile   = "soak.json"
	chartFile  = "cpu.svg"
	readmeFile = "README.md"
)

func (r *result) print(out io.Writer) error {
	m := r.Machine
	_, err := fmt.Fprintf(out, "\n%s, %d cores, %s, %s, commit %s; load average before: %s; %d connections, %d rounds of %v\n",
		m.CPU, m.Cores, m.Kernel, m.Go, m.Commit, m.Load, r.Conns, r.Rounds, r.Duration)
	for _, t := range r.Tables() {
		err = errors.Join(err, t.text(out))
	}
	return err
}

func writeJSON(file string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644) //nolint:gosec // a report
}

// readJSON leaves v as it is when there is no file.
func readJSON(file string, v any) (found bool, err error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(b, v)
}

// save writes a comparison into a directory: the figures, the chart, and the page
// that shows both beside the last soak.
func (r *result) save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a report
		return err
	}
	if err := writeJSON(filepath.Join(dir, resultFile), r); err != nil {
		return err
	}
	chart, err := r.chart()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, chartFile), chart, 0o644); err != nil { //nolint:gosec // a report
		return err
	}
	return writeReadme(dir)
}

// save writes a soak into a directory of results.
func (r *mixedResult) save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a report
		return err
	}
	if err := writeJSON(filepath.Join(dir, soakFile), r); err != nil {
		return err
	}
	return writeReadme(dir)
}

//go:embed readme.tmpl
var readmeText string

// writeReadme writes the page from the figures that lie beside it.
func writeReadme(dir string) error {
	var page struct {
		Result *result
		Soak   *mixedResult
	}
	r, s := &result{}, &mixedResult{}
	found, err := readJSON(filepath.Join(dir, resultFile), r)
	if err != nil {
		return err
	}
	if found {
		page.Result = r
	}
	if found, err = readJSON(filepath.Join(dir, soakFile), s); err != nil {
		return err
	}
	if found {
		page.Soak = s
	}
	text, err := renderReadme(page)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, readmeFile), []byte(text), 0o644) //nolint:gosec // a report
}

func renderReadme(page any) (string, error) {
	t, err := template.New(readmeFile).Funcs(template.FuncMap{
		"mib": mib, "us": us, "ms": func(d time.Duration) string { return ms(micros(d)) },
	}).Parse(readmeText)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, page)
	return b.String(), err
}
