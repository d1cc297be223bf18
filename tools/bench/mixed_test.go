package main

import (
	"strings"
	"testing"
	"time"
)

// The mix is what its text says.
func TestMix(t *testing.T) {
	requests, err := mix(&process{program: "sluice", addr: "x", token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, r := range requests {
		line, _, _ := strings.Cut(string(r.Wire), " HTTP")
		if !strings.Contains(string(r.Wire), "Authorization") {
			line = "nobody"
		}
		got[line]++
		if want := map[string]int{"nobody": 401, "GET /v1/orders/absent": 404, "POST /v1/users/ada/orders": 201}[line]; want != 0 && want != r.Status {
			t.Errorf("%s: status %d, want %d", line, r.Status, want)
		}
	}
	for line, want := range map[string]int{
		"GET /v1/users/ada": 50, "GET /v1/users/ada/orders?page_size=20": 25, "GET /v1/users/ada/overview": 10,
		"GET /v1/users/ada/orders?page_size=100": 5, "POST /v1/users/ada/orders": 5,
	} {
		if n := float64(got[line]*100) / float64(len(requests)); n != float64(want) {
			t.Errorf("%s: %v%%, want %d%%", line, n, want)
		}
	}
	if got["nobody"] != 1 || got["GET /v1/orders/absent"] != 1 || len(requests) != 40 {
		t.Errorf("of %d requests: %v", len(requests), got)
	}
}

func TestSteady(t *testing.T) {
	const m = 1 << 20
	level := footprint{RSS: 60 * m, Heap: 20 * m, Goroutines: 100}
	for _, tc := range []struct {
		name        string
		warm, later footprint
		want        string // in the error; empty: level
	}{
		{"the same", level, level, ""},
		{"less before", footprint{RSS: 9 * m, Heap: m, Goroutines: 9}, level, ""},
		{"less after", level, footprint{RSS: 9 * m, Heap: m, Goroutines: 9}, ""},
		{"a little more", level, footprint{RSS: 66 * m, Heap: 22 * m, Goroutines: 110}, ""},
		{"memory", level, footprint{RSS: 70 * m, Heap: 20 * m, Goroutines: 100}, "bytes resident"},
		{"heap", level, footprint{RSS: 60 * m, Heap: 24 * m, Goroutines: 100}, "bytes of heap"},
		{"goroutines", level, footprint{RSS: 60 * m, Heap: 20 * m, Goroutines: 120}, "goroutines"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			samples := []sample{{footprint: tc.warm}, {footprint: tc.warm}, {footprint: level}, {footprint: level}, {footprint: tc.later}, {footprint: tc.later}}
			err := steady(samples)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
	if err := steady(make([]sample, 2)); err == nil {
		t.Error("two samples are called level")
	}
}

func TestMixedTable(t *testing.T) {
	r := &mixedResult{}
	for i := range 40 {
		r.Samples = append(r.Samples, sample{At: time.Duration(i+1) * 15 * time.Second})
	}
	rows := r.Table().rows
	if len(rows) != 10 || rows[0][0] != "1m0s" || rows[9][0] != "10m0s" {
		t.Errorf("%d rows, from %s to %s", len(rows), rows[0][0], rows[len(rows)-1][0])
	}
	r.Samples = r.Samples[:3]
	if rows := r.Table().rows; len(rows) != 3 {
		t.Errorf("%d rows of 3 samples", len(rows))
	}
}
