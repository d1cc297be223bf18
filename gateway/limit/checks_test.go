package limit

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

func newLimiter(t testing.TB, o Options) *Limiter {
	t.Helper()
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestWhoIsCounted(t *testing.T) {
	classes := []Class{{Name: "all", Rates: []Rate{
		{Per: PerPrincipal, Requests: 1}, {Per: PerAPIKey, Requests: 1}, {Per: PerAddress, Requests: 1},
		{Per: PerMethod, Requests: 1}, {Per: PerTenant, Requests: 1}, {Per: PerGlobal, Requests: 1}, {Per: PerPrincipal, Requests: 60, Interval: time.Minute},
	}, Quotas: []Quota{
		{Per: PerPrincipal, Requests: 1, Period: Day}, {Per: PerAPIKey, Requests: 1, Period: Month},
		{Per: PerTenant, Requests: 1, Period: Day}, {Per: PerGlobal, Requests: 1, Period: Month},
	}}, {Name: "keys", Rates: []Rate{{Per: PerAPIKey, Requests: 9}}}}
	everyone := []Key{{"all/method/0", "/t.v1.T/M"}, {"all/global/0", ""}, {"all/global/month", ""}}
	for name, tc := range map[string]struct {
		class string
		who   *policy.Principal
		addr  string
		want  []Key
	}{
		"a token": {"all", known("ada"), "192.0.2.1", append([]Key{{"all/principal/0", "ada"}, {"all/address/0", "192.0.2.1"},
			{"all/principal/1", "ada"}, {"all/principal/day", "ada"}}, everyone...)},
		"an API key of the same subject, with a tenant": {"all", withKey("ada", "k1", "acme", ""), "192.0.2.1", append([]Key{
			{"all/principal/0", "acme ada"}, {"all/api_key/0", "k1"}, {"all/address/0", "192.0.2.1"}, {"all/tenant/0", "acme"},
			{"all/principal/1", "acme ada"}, {"all/principal/day", "acme ada"}, {"all/api_key/month", "k1"}, {"all/tenant/day", "acme"}}, everyone...)},
		"anonymous": {"all", policy.Anonymous, "192.0.2.1", append([]Key{{"all/principal/0/anonymous", "192.0.2.1"},
			{"all/address/0", "192.0.2.1"}, {"all/principal/1/anonymous", "192.0.2.1"}}, everyone...)},
		"a subject that looks like an address": {"all", known("192.0.2.1"), "192.0.2.1", append([]Key{{"all/principal/0", "192.0.2.1"},
			{"all/address/0", "192.0.2.1"}, {"all/principal/1", "192.0.2.1"}, {"all/principal/day", "192.0.2.1"}}, everyone...)},
		"IPv6 by /64":                                 {"all", policy.Anonymous, "2001:db8:1:2:3:4:5:6%eth0", anonymousAt("2001:db8:1:2::/64", everyone)},
		"IPv4 mapped into IPv6":                       {"all", policy.Anonymous, "::ffff:192.0.2.1", anonymousAt("192.0.2.1", everyone)},
		"no address":                                  {"all", policy.Anonymous, "", anonymousAt("unknown", everyone)},
		"the class of the key stands in":              {"all", withKey("ada", "k1", "", "keys"), "192.0.2.1", []Key{{"keys/api_key/0", "k1"}}},
		"a class that does not count this caller":     {"keys", known("ada"), "192.0.2.1", nil},
		"a rule without a class":                      {"", known("ada"), "192.0.2.1", nil},
		"a rule without a class, whatever the key is": {"", withKey("ada", "k1", "", "keys"), "192.0.2.1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := &cannedStore{ok: true, answers: make([]Answer, len(tc.want))}
			c, _ := newCall(tc.class, 3, tc.who, tc.addr)
			if _, err := newLimiter(t, Options{Store: s, Classes: classes}).Rates(context.Background(), c); err != nil {
				t.Fatal(err)
			}
			got := map[Key]bool{}
			for _, a := range s.asked {
				got[a.Key] = true
				if a.Cost != 3 {
					t.Errorf("%v costs %d", a.Key, a.Cost)
				}
			}
			want := map[Key]bool{}
			for _, k := range tc.want {
				want[k] = true
			}
			if diff := cmp.Diff(want, got); diff != "" || len(s.asked) != len(tc.want) {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

func anonymousAt(who string, everyone []Key) []Key {
	return append([]Key{{"all/principal/0/anonymous", who}, {"all/address/0", who}, {"all/principal/1/anonymous", who}}, everyone...)
}

func TestRatesOverRealBudgets(t *testing.T) {
	clock := &fakeClock{}
	reg := prometheus.NewRegistry()
	l := newLimiter(t, Options{
		Store:   NewLocal(NewMemory(MemoryOptions{MaxKeys: 1024, Now: clock.now}), nil),
		Metrics: reg,
		Classes: []Class{{Name: "read", Rates: []Rate{{Per: PerPrincipal, Requests: 50, Burst: 100}, {Per: PerGlobal, Requests: 90, Interval: time.Minute}}}},
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ada, key, bob := known("ada"), withKey("ada", "k1", "", ""), known("bob")
	const policyText = `"read-principal";q=100;w=2, "read-global";q=90;w=60`
	refused := outcome{codes.ResourceExhausted, ReasonRateLimited, "", "read", 0}
	for i, st := range []struct {
		after time.Duration
		who   *policy.Principal
		cost  int
		left  string
		limit string // That refused.
		retry time.Duration
		why   string
	}{
		{who: ada, cost: 1, left: `"read-principal";r=99;t=1, "read-global";r=89;t=1`},
		{who: key, cost: 29, left: `"read-principal";r=70;t=1, "read-global";r=60;t=20`}, // Another credential, the same budget.
		{who: ada, cost: 60, left: `"read-principal";r=10;t=2, "read-global";r=0;t=60`},
		{who: bob, cost: 1, left: `"read-principal";r=100;t=0, "read-global";r=0;t=1`, limit: "read-global",
			retry: 667 * time.Millisecond, why: "over the limit read-global, 90/min per global"},
		{who: ada, cost: 20, left: `"read-principal";r=10;t=1, "read-global";r=0;t=14`, limit: "read-global",
			retry: 13334 * time.Millisecond, why: "over the limit read-global, 90/min per global"},
		{after: 13334 * time.Millisecond, who: ada, cost: 20, left: `"read-principal";r=80;t=1, "read-global";r=0;t=60`},
		{who: ada, cost: 95, left: `"read-principal";r=80;t=1, "read-global";r=0;t=60`, limit: "read-global", retry: -1,
			why: "over the limit read-global, 90/min per global"},
	} {
		clock.advance(st.after)
		c, got := newCall("read", st.cost, st.who, "192.0.2.1")
		out, err := l.Rates(ctx, c)
		if out != ctx {
			t.Errorf("step %d: another context", i)
		}
		if diff := cmp.Diff(fields{{"Ratelimit-Policy", policyText}, {"Ratelimit", st.left}}, *got); diff != "" {
			t.Errorf("step %d: fields (-want +got):\n%s", i, diff)
		}
		want := outcome{Retry: -1}
		if st.limit != "" {
			want = refused
			want.Limit, want.Retry = st.limit, st.retry
		}
		if diff := cmp.Diff(want, outcomeOf(err)); diff != "" || c.Why != st.why {
			t.Errorf("step %d: why %q, outcome (-want +got):\n%s", i, c.Why, diff)
		}
	}
	for _, want := range []struct {
		limit, outcome string
		n              float64
	}{{"read-principal", "admitted", 4}, {"read-global", "admitted", 4}, {"read-principal", "refused", 2}, {"read-global", "refused", 3}} {
		if n := metric(t, reg, "sluice_limit_decisions_total", want.limit, want.outcome); n != want.n {
			t.Errorf("%s %s: %v, want %v", want.limit, want.outcome, n, want.n)
		}
	}
}

func TestFieldsAndRefusals(t *testing.T) {
	class := Class{Name: "paid",
		Rates:  []Rate{{Per: PerPrincipal, Requests: 3}, {Per: PerPrincipal, Requests: 100, Interval: time.Hour}},
		Quotas: []Quota{{Per: PerAPIKey, Requests: 1e18, Period: Month}, {Per: PerTenant, Requests: 10000, Period: Day}}}
	const policyText = `"paid-principal";q=3;w=1, "paid-principal-2";q=100;w=3600, ` +
		`"paid-api_key-month";q=999999999999999, "paid-tenant-day";q=10000;w=86400`
	for name, tc := range map[string]struct {
		answers []Answer
		ok      bool
		err     error
		left    string
		want    outcome
		msg     string
	}{
		"admitted": {
			answers: []Answer{yes(2, 1), yes(99, 36*time.Second), yes(1e17, 24*time.Hour), yes(9999, 3600*time.Second+1)}, ok: true,
			left: `"paid-principal";r=2;t=1, "paid-principal-2";r=99;t=36, "paid-api_key-month";r=999999999999999;t=86400, "paid-tenant-day";r=9999;t=3601`,
			want: outcome{Retry: -1},
		},
		"two have no room: the longer counts, rounded up": {
			answers: []Answer{no(0, time.Second, 5), no(0, time.Hour, 36*time.Second+1), yes(7, time.Hour), yes(8, time.Hour)},
			left:    `"paid-principal";r=0;t=1, "paid-principal-2";r=0;t=37, "paid-api_key-month";r=7;t=3600, "paid-tenant-day";r=8;t=3600`,
			want:    outcome{codes.ResourceExhausted, ReasonRateLimited, "paid-principal-2", "paid", 36*time.Second + time.Millisecond},
			msg:     "too many calls: the limit paid-principal-2 is 100/h per principal; retry in 36.001s",
		},
		"a quota is used up": {
			answers: []Answer{yes(3, 0), yes(100, 0), yes(7, time.Hour), no(0, 90*time.Minute, 90*time.Minute-1)},
			left:    `"paid-principal";r=3;t=0, "paid-principal-2";r=100;t=0, "paid-api_key-month";r=7;t=3600, "paid-tenant-day";r=0;t=5400`,
			want:    outcome{codes.ResourceExhausted, ReasonQuotaExceeded, "paid-tenant-day", "paid", 90 * time.Minute},
			msg:     "the quota paid-tenant-day of 10000/day per tenant is used up; it starts again in 1h30m0s",
		},
		"quotas that were not looked at": {
			answers: []Answer{no(0, time.Second, time.Millisecond), yes(99, 36*time.Second), yes(unknown, 0), yes(unknown, 0)},
			left:    `"paid-principal";r=0;t=1, "paid-principal-2";r=99;t=36`,
			want:    outcome{codes.ResourceExhausted, ReasonRateLimited, "paid-principal", "paid", time.Millisecond},
			msg:     "too many calls: the limit paid-principal is 3/s per principal; retry in 1ms",
		},
		"never": {
			answers: []Answer{no(3, time.Second, -1), no(0, time.Hour, time.Hour), yes(unknown, 0), yes(unknown, 0)},
			left:    `"paid-principal";r=3;t=1, "paid-principal-2";r=0;t=3600`,
			want:    outcome{codes.ResourceExhausted, ReasonRateLimited, "paid-principal", "paid", -1},
			msg:     "this call costs 1, more than the limit paid-principal (3/s per principal) ever holds: it is never admitted",
		},
		"nothing was looked at": {answers: []Answer{yes(unknown, 0), yes(unknown, 0), yes(unknown, 0), yes(unknown, 0)}, ok: true, want: outcome{Retry: -1}},
		"the store fails": {err: errors.New("redis: password wrong"), left: "-",
			want: outcome{codes.Unavailable, ReasonUnavailable, "", "", time.Second}, msg: "the limits of this call cannot be checked now: retry in a second"},
		"the store contradicts itself": {answers: []Answer{yes(3, 0), yes(4, 0), yes(5, 0), yes(6, 0)},
			left: `"paid-principal";r=3;t=0, "paid-principal-2";r=4;t=0, "paid-api_key-month";r=5;t=0, "paid-tenant-day";r=6;t=0`,
			want: outcome{codes.Unavailable, ReasonUnavailable, "", "", time.Second}, msg: "the limits of this call cannot be checked now: retry in a second"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &cannedStore{answers: tc.answers, ok: tc.ok, err: tc.err}
			c, got := newCall("paid", 0, withKey("ada", "k1", "acme", ""), "192.0.2.1")
			_, err := newLimiter(t, Options{Store: s, Classes: []Class{class}}).Rates(context.Background(), c)
			if diff := cmp.Diff(tc.want, outcomeOf(err)); diff != "" || status.Convert(err).Message() != tc.msg {
				t.Errorf("message %q, outcome (-want +got):\n%s", status.Convert(err).Message(), diff)
			}
			want := fields{{"Ratelimit-Policy", policyText}, {"Ratelimit", tc.left}}
			switch tc.left {
			case "":
				want = want[:1]
			case "-":
				want = fields{}
			}
			if diff := cmp.Diff(want, *got); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
			if tc.err != nil && c.Why != tc.err.Error() {
				t.Errorf("why %q", c.Why)
			}
			c.Annotate = nil
			if _, again := newLimiter(t, Options{Store: s, Classes: []Class{class}}).Rates(context.Background(), c); status.Code(again) != status.Code(err) {
				t.Errorf("without Annotate: %v", again)
			}
		})
	}
}

func TestUnknownClassIsRefused(t *testing.T) {
	l := newLimiter(t, Options{})
	for _, check := range []policy.Check{l.Rates, l.InFlight} {
		c, _ := newCall("nope", 1, known("ada"), "192.0.2.1")
		_, err := check(context.Background(), c)
		if o := outcomeOf(err); o.Code != codes.Unavailable || o.Reason != ReasonUnavailable || c.Why != `there is no limit class "nope"` {
			t.Errorf("%+v, why %q", o, c.Why)
		}
	}
}

func TestACallerWhoHasGoneIsNotTheStoresFault(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l := newLimiter(t, Options{Store: &cannedStore{err: ctx.Err()}, Classes: []Class{{Name: "c", Rates: []Rate{{Requests: 1}}}}})
	c, _ := newCall("c", 1, known("ada"), "")
	if _, err := l.Rates(ctx, c); status.Code(err) != codes.Canceled {
		t.Error(err)
	}
}

func TestArrival(t *testing.T) {
	clock := &fakeClock{}
	reg := prometheus.NewRegistry()
	l := newLimiter(t, Options{Address: &Rate{Requests: 1, Per: PerGlobal}, Metrics: reg,
		Arrivals: NewMemory(MemoryOptions{MaxKeys: 1024, Now: clock.now})})
	for i, st := range []struct {
		after time.Duration
		addr  string
		left  string // Empty: admitted.
		retry time.Duration
	}{
		{0, "192.0.2.1", "", 0},
		{0, "::ffff:192.0.2.1", "", 0},
		{0, "192.0.2.1", `"address";r=0;t=1`, time.Second},
		{0, "192.0.2.2", "", 0},
		{0, "2001:db8::1", "", 0},
		{0, "2001:db8::2:0:0:1", "", 0},
		{0, "2001:db8::3%eth0", `"address";r=0;t=1`, time.Second},
		{0, "2001:db8:0:1::1", "", 0},
		{300*time.Millisecond + 1, "192.0.2.1", `"address";r=0;t=1`, 700 * time.Millisecond},
		{700 * time.Millisecond, "192.0.2.1", "", 0},
		{0, "", "", 0},
		{0, "", "", 0},
		{0, "", `"address";r=0;t=1`, time.Second},
	} {
		clock.advance(st.after)
		c, got := newCall("", 0, policy.Anonymous, st.addr)
		c.Method = nil
		_, err := l.Arrival(context.Background(), c)
		want, wantFields := outcome{Retry: -1}, fields{}
		if st.left != "" {
			want = outcome{codes.ResourceExhausted, ReasonAddressRateLimited, "address", "", st.retry}
			wantFields = fields{{"Ratelimit-Policy", `"address";q=2;w=2`}, {"Ratelimit", st.left}}
		}
		if diff := cmp.Diff(want, outcomeOf(err)) + cmp.Diff(wantFields, *got); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
	if a, r := metric(t, reg, "sluice_limit_decisions_total", "address", "admitted"), metric(t, reg, "sluice_limit_decisions_total", "address", "refused"); a != 9 || r != 4 {
		t.Errorf("%v admitted, %v refused", a, r)
	}
	off := newLimiter(t, Options{})
	c, _ := newCall("", 0, policy.Anonymous, "192.0.2.1")
	for range 1000 {
		if _, err := off.Arrival(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}
}

func TestArrivalAndStoreAgreeOnAddresses(t *testing.T) {
	m := NewMemory(MemoryOptions{MaxKeys: 1 << 12, Now: (&fakeClock{}).now})
	for i := range 256 {
		who := "10.0.0." + strconv.Itoa(i)
		a := Ask{Key: Key{Limit: "l", Who: who}, Cost: 1, Size: 2, Emission: time.Hour}
		take(t, m, a)
		if got := m.takeAddress(&a, []byte(who)); got.Remaining != 0 {
			t.Fatalf("%s: %+v", who, got)
		}
	}
}
