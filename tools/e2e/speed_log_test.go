package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// accessLog counts the lines of the access log by their request's id. Each line must
// be whole, except for the end of what was killed.
func accessLog(t *testing.T, p *process) map[string]int {
	t.Helper()
	ids := map[string]int{}
	for line := range strings.Lines(p.stderr.String()) {
		var l struct {
			Msg string
			ID  string `json:"request_id"`
		}
		if !strings.HasSuffix(line, "\n") {
			continue // Being written, or cut off.
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if l.Msg == "request" {
			ids[l.ID]++
		}
	}
	return ids
}

// answered is when a request was answered, by its id.
type answered struct {
	id string
	at time.Time
}

// numbered asks over and over until the gateway is gone, from several clients, and
// returns what was answered. ending is called once there are enough.
func numbered(t *testing.T, g *gateway, ending func()) (all []answered) {
	t.Helper()
	var (
		mu      sync.Mutex
		clients sync.WaitGroup
	)
	ctx, enough := bounded(t), make(chan struct{})
	for c := range 4 {
		clients.Go(func() {
			client := http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for n := 0; ; n++ {
				id := fmt.Sprintf("client-%d-%d", c, n)
				req, err := http.NewRequestWithContext(ctx, "GET", g.url+"/v1/users/ada/profile", nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("X-Request-Id", id)
				res, err := client.Do(req)
				if err != nil {
					return // The gateway is gone.
				}
				_, err = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if err != nil {
					return
				}
				mu.Lock()
				all = append(all, answered{id, time.Now()})
				if len(all) == 3000 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-ctx.Done():
		t.Error("too few requests were answered")
	}
	ending()
	clients.Wait()
	return all
}

// TestKilledLog: kill -9 takes what waited to be written, and that is only the
// newest: 100 ms, and what a busy machine adds to them.
func TestKilledLog(t *testing.T) {
	t.Parallel()
	g := startGateway(t, setup{})
	// What nothing follows is written, too.
	a, err := g.send(bounded(t), "GET", "/v1/users/ada/profile", "", nil, "X-Request-Id", "alone")
	if err != nil || a.status != 200 {
		t.Fatal(a.status, err)
	}
	eventually(t, patience, func() error {
		if accessLog(t, g.process)["alone"] != 1 {
			return errors.New("no line of a request that nothing follows")
		}
		return nil
	})
	var end time.Time
	requests := numbered(t, g, func() { end = time.Now(); g.kill() })
	lines, lost, oldest := accessLog(t, g.process), 0, time.Duration(0)
	for _, r := range requests {
		switch lines[r.id] {
		case 0:
			lost, oldest = lost+1, max(oldest, end.Sub(r.at))
		case 1:
		default:
			t.Errorf("%s has %d lines", r.id, lines[r.id])
		}
	}
	t.Logf("%d answers, %d without a line, the oldest answered %v before the end", len(requests), lost, oldest)
	if lost > len(requests)/2 {
		t.Errorf("%d of %d answers have no line", lost, len(requests))
	}
}

// TestStoppedLog: a gateway that is asked to end has a line for every answer.
func TestStoppedLog(t *testing.T) {
	t.Parallel()
	g := startGateway(t, setup{})
	requests := numbered(t, g, func() { g.signal(t, syscall.SIGTERM) })
	if code := g.exitCode(t, patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	lines := accessLog(t, g.process)
	for _, r := range requests {
		if lines[r.id] != 1 {
			t.Errorf("%s has %d lines", r.id, lines[r.id])
		}
	}
}

// TestCollector: GOGC and GOMEMLIMIT as documented, or as the environment says;
// the log tells at debug what was chosen, and the metrics what holds.
func TestCollector(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env            []string
		percent, limit float64 // limit 0: that of the machine, which the test does not know
		chosen         int
	}{
		{[]string{"GOGC=", "GOMEMLIMIT="}, 200, 0, 200},
		{[]string{"GOGC=50", "GOMEMLIMIT=300MiB"}, 50, 300 << 20, 0},
		{[]string{"GOGC=", "GOMEMLIMIT=off"}, 200, math.MaxInt64, 200},
	} {
		g := startGateway(t, setup{config: object{"log": object{"level": "debug"}}, env: c.env})
		if p, l := sample(t, g, "go_gc_gogc_percent"), sample(t, g, "go_gc_gomemlimit_bytes"); p != c.percent || c.limit != 0 && l != c.limit {
			t.Errorf("%q: GOGC %v, GOMEMLIMIT %v", c.env, p, l)
		}
		told := false
		for line := range strings.Lines(g.stderr.String()) {
			var l struct {
				Msg   string
				GOGC  int
				Limit int64 `json:"gomemlimit"`
			}
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "garbage collection" {
				told = l.GOGC == c.chosen
			}
		}
		if !told {
			t.Errorf("%q: the log does not tell of %d", c.env, c.chosen)
		}
	}
}
