package limit

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestPer(t *testing.T) {
	for i, name := range []string{"principal", "api_key", "address", "method", "tenant", "global"} {
		p, err := ParsePer(name)
		if err != nil || p != Per(i) || p.String() != name {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	for _, name := range []string{"", "Principal", "principals"} {
		if _, err := ParsePer(name); err == nil {
			t.Errorf("%q is read", name)
		}
	}
	if got := Per(9).String(); got != "Per(9)" {
		t.Error(got)
	}
}

func TestEmission(t *testing.T) {
	for want, r := range map[time.Duration]Rate{
		20 * time.Millisecond: {Requests: 50, Interval: time.Second},
		666666666:             {Requests: 90, Interval: time.Minute},
		1:                     {Requests: 1e9, Interval: time.Second},
		2:                     {Requests: 6e8, Interval: time.Second},
		1000:                  {Requests: 1e6 - 1, Interval: time.Second},
		1001:                  {Requests: 999, Interval: time.Millisecond},
	} {
		if got := r.emission(); got != want {
			t.Errorf("%v: %d ns, want %d", r, got, want)
		}
	}
}

func TestClassInWords(t *testing.T) {
	for want, c := range map[string]Class{
		"no limit":           {},
		"50/s per principal": {Rates: []Rate{{Per: PerPrincipal, Requests: 50}}},
		"50/s per principal, burst 100; 10000/day per api_key": {
			Rates:  []Rate{{Per: PerPrincipal, Requests: 50, Interval: time.Second, Burst: 100}},
			Quotas: []Quota{{Per: PerAPIKey, Requests: 10000, Period: Day}},
		},
		"9/min per address; 8/h per tenant; 7/1.5s per global; 5/month per global; 3 in flight per caller; 4 in flight per method": {
			Rates: []Rate{{Per: PerAddress, Requests: 9, Interval: time.Minute}, {Per: PerTenant, Requests: 8, Interval: time.Hour},
				{Per: PerGlobal, Requests: 7, Interval: 1500 * time.Millisecond, Burst: 7}},
			Quotas:               []Quota{{Per: PerGlobal, Requests: 5, Period: Month}},
			MaxInFlightPerCaller: 3, MaxInFlightPerMethod: 4,
		},
	} {
		if got := c.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	rate, m := Rate{Per: PerPrincipal, Requests: 1}, NewMemory(MemoryOptions{MaxKeys: 64})
	class := func(c Class) Options { return Options{Store: m, Classes: []Class{c}} }
	rates := func(r ...Rate) Options { return class(Class{Name: "c", Rates: r}) }
	quotas := func(q ...Quota) Options { return class(Class{Name: "c", Quotas: q}) }
	for name, tc := range map[string]struct {
		o    Options
		want string
	}{
		"no name":               {class(Class{}), `limit class "": a name is`},
		"a name with a quote":   {class(Class{Name: `a"b`}), "a name is"},
		"a name with a slash":   {class(Class{Name: "a/b"}), "a name is"},
		"a long name":           {class(Class{Name: strings.Repeat("a", 33)}), "a name is"},
		"two of a name":         {Options{Classes: []Class{{Name: "c"}, {Name: "c"}}}, "limit class c is there twice"},
		"no store":              {Options{Classes: []Class{{Name: "c", Rates: []Rate{rate}}}}, "there is no store"},
		"no requests":           {rates(Rate{Per: PerGlobal}), "limit class c: a rate per global needs positive"},
		"negative requests":     {rates(Rate{Requests: -1}), "needs positive"},
		"negative interval":     {rates(Rate{Requests: 1, Interval: -1}), "needs positive"},
		"negative burst":        {rates(Rate{Requests: 1, Burst: -1}), "needs positive"},
		"per nobody":            {rates(Rate{Per: 9, Requests: 1}), "per nobody: Per(9)"},
		"too fast":              {rates(Rate{Requests: 1001, Interval: time.Microsecond}), "more than one request in a nanosecond"},
		"a burst without end":   {rates(Rate{Requests: 1, Interval: time.Hour, Burst: 1e9}), "more than 36 years"},
		"a quota per address":   {quotas(Quota{Per: PerAddress, Requests: 1, Period: Day}), "cannot be per address"},
		"a quota per method":    {quotas(Quota{Per: PerMethod, Requests: 1, Period: Day}), "cannot be per method"},
		"a quota of no period":  {quotas(Quota{Requests: 1}), "needs a period"},
		"a quota of nothing":    {quotas(Quota{Period: Day}), "needs positive requests"},
		"one quota twice":       {quotas(Quota{Requests: 1, Period: Day}, Quota{Requests: 2, Period: Day}), "two quotas per principal and day"},
		"too many":              {rates(make([]Rate, 17)...), "more than 16"},
		"negative in flight":    {class(Class{Name: "c", MaxInFlightPerMethod: -1}), "in flight is negative"},
		"address without store": {Options{Address: &rate}, "limit by address: there is no memory"},
		"address of nothing":    {Options{Address: &Rate{}, Arrivals: m}, "limit by address: a rate per address needs positive"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := New(tc.o)
			if err == nil || l != nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v; want an error that says %q", err, tc.want)
			}
		})
	}
	_, err := New(Options{Classes: []Class{{Name: "A"}, {Name: "b", Rates: []Rate{{}, {Per: 7, Requests: 1}}}}, Address: &Rate{}})
	for _, want := range []string{`limit class "A"`, "limit class b", "Per(7)", "limit by address"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}

func TestCheckAndClass(t *testing.T) {
	c := Class{Name: "c", Rates: []Rate{{Requests: 9, Burst: 3}, {Per: PerTenant, Requests: 5}}, Quotas: []Quota{{Requests: 4, Period: Day}}}
	l, err := New(Options{Store: NewMemory(MemoryOptions{MaxKeys: 64}), Classes: []Class{c, {Name: "free"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		class string
		cost  int
		want  string
	}{
		{"c", 1, ""}, {"c", 3, ""}, {"c", 4, "9/s per principal, burst 3"}, {"free", 1000000, ""}, {"nope", 1, `no limit class "nope"`}, {"", 1, "no limit class"},
	} {
		err := l.Check(tc.class, tc.cost)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s at %d: %v, want %q", tc.class, tc.cost, err, tc.want)
		}
	}
	if !l.Knows("c") || !l.Knows("free") || l.Knows("nope") {
		t.Error("Knows is wrong")
	}
	if got, ok := l.Class("c"); !ok || got.String() != c.String() {
		t.Errorf("got %v, %v", got, ok)
	}
	if _, ok := l.Class("nope"); ok {
		t.Error("a class out of nothing")
	}
}

func TestALimiterMadeAnewGoesOnCounting(t *testing.T) {
	reg := prometheus.NewRegistry()
	for range 2 {
		if _, err := New(Options{Metrics: reg}); err != nil {
			t.Fatal(err)
		}
	}
	other := prometheus.NewRegistry()
	other.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "sluice_limit_decisions_total", Help: "x"}))
	if _, err := New(Options{Metrics: other}); err == nil {
		t.Error("another's metric of the same name is no error")
	}
}
