package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
)

// sample is one value of a gateway's metrics, in the text format of Prometheus.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

var (
	samplePattern = regexp.MustCompile(`^(\w+)(?:\{(.*)\})? (\S+)`)
	labelPattern  = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
)

// parse reads the samples of a page of metrics; what else is there is comments.
func parse(page []byte) ([]sample, error) {
	var out []sample
	lines := bufio.NewScanner(bytes.NewReader(page))
	for lines.Scan() {
		if lines.Text() == "" || lines.Text()[0] == '#' {
			continue
		}
		m := samplePattern.FindStringSubmatch(lines.Text())
		if m == nil {
			return nil, fmt.Errorf("no sample: %q", lines.Text())
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", lines.Text(), err)
		}
		s := sample{name: m[1], labels: map[string]string{}, value: value}
		for _, l := range labelPattern.FindAllStringSubmatch(m[2], -1) {
			s.labels[l[1]] = l[2]
		}
		out = append(out, s)
	}
	return out, lines.Err()
}

// metrics asks a gateway for its metrics.
func (g *gateway) metrics(ctx context.Context) ([]sample, error) {
	page, err := get(ctx, "http://"+g.admin+"/metrics")
	if err != nil {
		return nil, err
	}
	return parse(page)
}

// whole says whether everything is in use: both gateways are ready, and call both
// processes of every service. Breakers are left out: one that nobody asks stays
// open, and whom an open one refuses counts as a failure anyway.
func (c *cluster) whole(ctx context.Context) error {
	for _, g := range c.gateways {
		if err := g.ready(ctx); err != nil {
			return err
		}
		samples, err := g.metrics(ctx)
		if err != nil {
			return err
		}
		called := map[string]float64{}
		for _, s := range samples {
			if s.name == "sluice_upstream_backends" && (s.labels["state"] == "ready" || s.labels["state"] == "slow_start") {
				called[s.labels["target"]] += s.value
			}
		}
		for _, s := range shop {
			if n := called["etcd:///"+s.full]; n != 2 {
				return fmt.Errorf("%s calls %v of the 2 %s services", g.name, n, s.short)
			}
		}
	}
	return nil
}

// canaryCalls is how many calls the gateways have sent to the canary.
func (c *cluster) canaryCalls(ctx context.Context) (float64, error) {
	var n float64
	for _, g := range c.gateways {
		samples, err := g.metrics(ctx)
		if err != nil {
			return 0, err
		}
		for _, s := range samples {
			if s.name == "sluice_variant_requests_total" && s.labels["variant"] == canaryName {
				n += s.value
			}
		}
	}
	return n, nil
}

// fetch returns the body of an answer with 200.
func fetch(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, res.Status)
	}
	return body, err
}
