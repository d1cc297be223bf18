package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/tools/bench/load"
)

// mixText says what mix is.
const mixText = "50% one user, 25% list of 20, 10% overview, 5% list of 100, 5% an order placed, 2.5% without a token (401), 2.5% an order that is not there (404)"

// mixedShare is the rate of the mixed soak, as a share of what a closed loop of
// the same mix reaches.
const mixedShare = 0.8

// levelVerdict is that of a soak in which nothing grew.
const levelVerdict = "level"

// sampleEvery is how often the mixed soak looks at the process.
const sampleEvery = 15 * time.Second

// mixedResult is a mixed soak.
type mixedResult struct {
	When     time.Time     `json:"when"`
	Command  string        `json:"command"`
	Machine  machine       `json:"machine"`
	Gateway  string        `json:"gateway"`
	Mix      string        `json:"mix"`
	Conns    int           `json:"connections"`
	Capacity float64       `json:"capacity"` // requests a second, closed loop
	Share    float64       `json:"share_percent"`
	Rate     float64       `json:"rate"` // requests a second
	Duration time.Duration `json:"duration_ns"`
	Requests int           `json:"requests"`
	P50      time.Duration `json:"p50_ns"`
	P99      time.Duration `json:"p99_ns"`
	P999     time.Duration `json:"p999_ns"`
	Max      time.Duration `json:"max_ns"`
	Spans    int64         `json:"spans"`
	Samples  []sample      `json:"samples"`
	Verdict  string        `json:"verdict"`
}

// sample is a look at the process, and the latencies of the time before it.
type sample struct {
	footprint
	At   time.Duration `json:"at_ns"`
	P50  time.Duration `json:"p50_ns"`
	P99  time.Duration `json:"p99_ns"`
	P999 time.Duration `json:"p999_ns"`
	Late time.Duration `json:"late_p99_ns"`
}

// mix is the requests in the order they are sent, over and over: 40 of them,
// spread so that no kind comes in a row more often than it must.
func mix(p *process) ([]load.Request, error) {
	kinds := map[byte]load.Request{
		'-': load.NewRequest(http.MethodGet, p.addr, "/v1/users/ada", "", "", nil, http.StatusUnauthorized),
		'?': load.NewRequest(http.MethodGet, p.addr, "/v1/orders/absent", p.token, "", nil, http.StatusNotFound),
	}
	for letter, name := range map[byte]string{'u': "user", 'l': "list20", 'o': "overview", 'L': "list100", 'c': "create"} {
		plan, err := workNamed(name).planFor(p)
		if err != nil {
			return nil, err
		}
		kinds[letter] = plan.http
	}
	if p.program != "sluice" { // Others ask nobody for a token.
		kinds['-'] = kinds['?']
	}
	var out []load.Request
	for _, letter := range []byte(mixOrder) {
		out = append(out, kinds[letter])
	}
	return out, nil
}

const mixOrder = "ululuouLul" + "ucuouluul-" + "ululuouLul" + "ucuouluul?"

// mixed holds a gateway under a constant load of all kinds and watches what it
// holds meanwhile.
func mixed(ctx context.Context, s settings, g *process, out io.Writer) (r *mixedResult, err error) {
	r = &mixedResult{
		When: time.Now().UTC(), Command: s.command(), Machine: thisMachine(ctx), Gateway: g.name, Mix: mixText,
		Conns: s.mixedConns, Share: mixedShare * 100, Duration: s.duration,
	}
	requests, err := mix(g)
	if err != nil {
		return nil, err
	}
	callers, err := httpCallers(ctx, g, s.mixedConns, requests)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeAll(callers)) }()
	if r.Capacity, err = capacity(ctx, callers, min(s.duration/2, 10*time.Second)); err != nil {
		return nil, err
	}
	r.Rate = r.Capacity * mixedShare
	if _, err := fmt.Fprintf(out, "%s: %.0f requests/s in a closed loop; now %.0f/s for %v\n", g.name, r.Capacity, r.Rate, s.duration); err != nil {
		return nil, err
	}
	if err := r.drive(ctx, g, callers, out); err != nil {
		return nil, err
	}
	r.Verdict = levelVerdict
	if err := steady(r.Samples); err != nil {
		r.Verdict = err.Error()
	}
	_, err = fmt.Fprintf(out, "%d requests: p50 %v, p99 %v, p99.9 %v, longest %v; memory and goroutines: %s\n",
		r.Requests, round(r.P50), round(r.P99), round(r.P999), round(r.Max), r.Verdict)
	return r, err
}

// capacity is what a closed loop reaches, warmed up.
func capacity(ctx context.Context, callers []load.Caller, d time.Duration) (float64, error) {
	var run load.Run
	for range 2 {
		var err error
		if run, err = load.Closed(ctx, callers, load.Bounds{Requests: 1 << 40, For: d}); err != nil {
			return 0, err
		}
	}
	return float64(len(run.Latencies)) / run.Elapsed.Seconds(), nil
}

// drive sends the load in stretches that follow one another; each is looked at in
// its middle, under load, and its latencies are its own.
func (r *mixedResult) drive(ctx context.Context, g *process, callers []load.Caller, out io.Writer) error {
	every := min(sampleEvery, r.Duration/6)
	var all load.Histogram
	start := time.Now()
	for n := 1; time.Duration(n)*every <= r.Duration; n++ {
		looked := make(chan struct{})
		var look footprint
		var lookErr error
		go func() { // In the middle of the load, not after it.
			defer close(looked)
			select {
			case <-ctx.Done():
				lookErr = ctx.Err()
			case <-time.After(every / 2):
				look, lookErr = g.footprint(ctx)
			}
		}()
		run, err := load.Open(ctx, callers, r.Requests, r.Rate, every)
		<-looked
		if err = errors.Join(err, lookErr); err != nil {
			return err
		}
		r.Requests += len(run.Latencies)
		look.Requests = r.Requests
		all.Add(run.Latencies)
		s := sample{
			footprint: look, At: time.Since(start).Round(time.Second), P50: load.Percentile(run.Latencies, 50),
			P99: load.Percentile(run.Latencies, 99), P999: load.Percentile(run.Latencies, 99.9), Late: load.Percentile(run.Late, 99),
		}
		r.Samples = append(r.Samples, s)
		if _, err := fmt.Fprintf(out, "%6v %8d requests  p50 %-8v p99 %-8v p99.9 %-8v  %6.1f MiB resident, %5.1f MiB heap, %d goroutines\n",
			s.At, s.Requests, round(s.P50), round(s.P99), round(s.P999), mib(s.RSS), mib(s.Heap), s.Goroutines); err != nil {
			return err
		}
		if err := g.trimLog(); err != nil {
			return err
		}
	}
	r.P50, r.P99, r.P999, r.Max = all.Percentile(50), all.Percentile(99), all.Percentile(99.9), all.Percentile(100)
	return nil
}

// steady holds the last third of a soak against the middle one; the first is the
// warm-up. A twentieth and a little more is what a level process varies by.
func steady(samples []sample) error {
	n := len(samples) / 3
	if n == 0 {
		return errors.New("too few samples")
	}
	middle, last := samples[len(samples)-2*n:len(samples)-n], samples[len(samples)-n:]
	var errs []error
	for _, c := range []struct {
		what  string
		of    func(sample) int64
		slack float64
	}{
		{"bytes resident", func(s sample) int64 { return s.RSS }, 4 << 20},
		{"bytes of heap", func(s sample) int64 { return s.Heap }, 2 << 20},
		{"goroutines", func(s sample) int64 { return s.Goroutines }, 10},
	} {
		was, is := mean(middle, c.of), mean(last, c.of)
		if is > was*1.05+c.slack {
			errs = append(errs, fmt.Errorf("%.0f %s in the last third, %.0f in the middle one", is, c.what, was))
		}
	}
	return errors.Join(errs...)
}

func mean(samples []sample, of func(sample) int64) float64 {
	var sum float64
	for _, s := range samples {
		sum += float64(of(s))
	}
	return sum / float64(len(samples))
}

// Table is the samples, ten at most.
func (r *mixedResult) Table() table {
	t := table{
		Title: "Mixed load",
		head:  []string{"after", "requests", "p50", "p99", "p99.9", "resident", "heap", "goroutines"},
	}
	step := max((len(r.Samples)+9)/10, 1)
	for i, s := range r.Samples {
		if (len(r.Samples)-1-i)%step != 0 { // The last is always there.
			continue
		}
		t.rows = append(t.rows, []string{
			s.At.String(), fmt.Sprint(s.Requests), ms(micros(s.P50)), ms(micros(s.P99)), ms(micros(s.P999)),
			fmt.Sprintf("%.1f MiB", mib(s.RSS)), fmt.Sprintf("%.1f MiB", mib(s.Heap)), fmt.Sprint(s.Goroutines),
		})
	}
	return t
}
