package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// measurement is one run: one process, one path.
type measurement struct {
	Gateway  string        `json:"gateway"`
	Path     string        `json:"path"`
	Requests int           `json:"requests"`
	Elapsed  time.Duration `json:"elapsed_ns"`
	CPU      time.Duration `json:"cpu_ns"` // of the gateway's process
	P50      time.Duration `json:"p50_ns"`
	P99      time.Duration `json:"p99_ns"`
}

// cpuPerRequest is in microseconds.
func (m measurement) cpuPerRequest() float64 {
	return float64(m.CPU.Nanoseconds()) / 1e3 / float64(m.Requests)
}

// throughput is in requests a second.
func (m measurement) throughput() float64 { return float64(m.Requests) / m.Elapsed.Seconds() }

// measure drives one path of one gateway, in a closed loop over so many
// connections, until the time is up or the requests are spent. Any answer but
// 200 fails it.
func measure(ctx context.Context, p *process, path string, conns, requests int, limit time.Duration) (measurement, error) {
	client, closeIdle := newClient(conns)
	defer closeIdle()
	// The connections are opened before the clock starts.
	if _, err := closedLoop(ctx, client, p, path, conns, conns, limit); err != nil {
		return measurement{}, err
	}
	before, err := p.cpu()
	if err != nil {
		return measurement{}, err
	}
	start := time.Now()
	latencies, err := closedLoop(ctx, client, p, path, conns, requests, limit)
	if err != nil {
		return measurement{}, err
	}
	elapsed := time.Since(start)
	after, err := p.cpu()
	if err != nil {
		return measurement{}, err
	}
	slices.Sort(latencies)
	return measurement{
		Gateway: p.name, Path: path, Requests: len(latencies), Elapsed: elapsed, CPU: after - before,
		P50: percentile(latencies, 50), P99: percentile(latencies, 99),
	}, nil
}

// closedLoop has every connection ask again as soon as it is answered. It ends
// at the first failure and answers all latencies otherwise.
func closedLoop(ctx context.Context, client *http.Client, p *process, path string, conns, requests int, limit time.Duration) ([]time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		left     atomic.Int64
		deadline = time.Now().Add(limit)
		each     = make([][]time.Duration, conns)
		workers  sync.WaitGroup
	)
	left.Store(int64(requests))
	for i := range conns {
		workers.Go(func() {
			for time.Now().Before(deadline) && left.Add(-1) >= 0 {
				start := time.Now()
				if err := ask(ctx, client, p, path); err != nil {
					cancel(err)
					return
				}
				each[i] = append(each[i], time.Since(start))
			}
		})
	}
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("%s: GET %s: %w", p.name, path, err)
	}
	all := slices.Concat(each...)
	if len(all) == 0 {
		return nil, errors.New("no request was sent: the time is too short")
	}
	return all, nil
}

// ask sends one request, and throws the answer away.
func ask(ctx context.Context, client *http.Client, p *process, path string) error {
	return send(ctx, client, "http://"+p.addr+path, p.token, io.Discard)
}

// get sends one request to what need not be fast, and answers the body.
func get(ctx context.Context, url, token string) ([]byte, error) {
	var body bytes.Buffer
	err := send(ctx, http.DefaultClient, url, token, &body)
	return body.Bytes(), err
}

// send sends one request and copies the answer's body. Anything but 200 is an
// error.
func send(ctx context.Context, client *http.Client, url, token string, body io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	if resp.StatusCode != http.StatusOK {
		complaint, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return fmt.Errorf("answered %s: %s", resp.Status, complaint)
	}
	_, err = io.Copy(body, resp.Body)
	return err
}

// newClient keeps conns connections alive and asks for no compression, which
// one gateway might offer and the other not.
func newClient(conns int) (*http.Client, func()) {
	t := &http.Transport{MaxIdleConns: conns, MaxIdleConnsPerHost: conns, MaxConnsPerHost: conns, DisableCompression: true}
	return &http.Client{Transport: t, Timeout: 30 * time.Second}, t.CloseIdleConnections
}
