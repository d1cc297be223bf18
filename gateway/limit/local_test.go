package limit

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLocal(t *testing.T) {
	rate := Ask{Key: Key{"r", "w"}, Cost: 2, Size: 5, Emission: time.Second}
	quota := Ask{Key: Key{"q", "w"}, Cost: 2, Size: 9, Period: Day}
	full := no(1, time.Hour, time.Hour)
	down := errors.New("disk full")
	for name, tc := range map[string]struct {
		used   int64 // Of the rate, before.
		asks   []Ask
		quotas *cannedStore
		ok     bool
		err    error
		want   []Answer
		left   int64 // Of the rate, after.
		takes  int   // Of the quota store.
	}{
		"both have room": {
			asks: []Ask{rate, quota}, quotas: &cannedStore{ok: true, answers: []Answer{yes(7, time.Hour)}},
			ok: true, want: []Answer{yes(3, 2*time.Second), yes(7, time.Hour)}, left: 3, takes: 1,
		},
		"the rate has none: the quota is not asked": {
			used: 4, asks: []Ask{rate, quota}, quotas: &cannedStore{ok: true, answers: []Answer{yes(7, time.Hour)}},
			want: []Answer{no(1, 4*time.Second, time.Second), yes(unknown, 0)}, left: 1,
		},
		"the quota has none: the rate is given back": {
			used: 1, asks: []Ask{rate, quota}, quotas: &cannedStore{answers: []Answer{full}},
			want: []Answer{yes(4, time.Second), full}, left: 4, takes: 1,
		},
		"the quota fails: the rate is given back": {
			used: 1, asks: []Ask{rate, quota}, quotas: &cannedStore{err: down}, err: down, left: 4, takes: 1,
		},
		"rates alone": {asks: []Ask{rate}, quotas: &cannedStore{}, ok: true, want: []Answer{yes(3, 2*time.Second)}, left: 3},
		"quotas alone": {
			asks: []Ask{quota}, quotas: &cannedStore{ok: true, answers: []Answer{yes(7, time.Hour)}},
			ok: true, want: []Answer{yes(7, time.Hour)}, left: 5, takes: 1,
		},
		"quotas first": {
			asks: []Ask{quota, rate}, quotas: &cannedStore{answers: []Answer{full}},
			want: []Answer{full, yes(5, 0)}, left: 5, takes: 1,
		},
		"no store for quotas": {asks: []Ask{rate, quota}, err: errNoQuotas, left: 5},
		"rates need none":     {asks: []Ask{rate}, ok: true, want: []Answer{yes(3, 2*time.Second)}, left: 3},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMemory(MemoryOptions{MaxKeys: 64, Now: (&fakeClock{}).now})
			var quotas Store
			if tc.quotas != nil {
				quotas = tc.quotas
			}
			s := NewLocal(m, quotas)
			if tc.used > 0 {
				before := rate
				before.Cost = tc.used
				take(t, m, before)
			}
			answers := make([]Answer, len(tc.asks))
			ok, err := s.Take(context.Background(), tc.asks, answers)
			if ok != tc.ok || !errors.Is(err, tc.err) {
				t.Fatalf("got %v, %v; want %v, %v", ok, err, tc.ok, tc.err)
			}
			if diff := cmp.Diff(tc.want, answers); err == nil && diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			probe := rate
			probe.Cost = probe.Size + 1
			if left := take(t, m, probe).Remaining; left != tc.left {
				t.Errorf("the rate has %d left, want %d", left, tc.left)
			}
			if tc.quotas != nil && tc.quotas.takes != tc.takes {
				t.Errorf("the quotas were asked %d times, want %d", tc.quotas.takes, tc.takes)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if tc.quotas != nil && !tc.quotas.closed {
				t.Error("the store of the quotas is not closed")
			}
		})
	}
}

func TestLocalRefusesWrongAnswers(t *testing.T) {
	s := NewLocal(NewMemory(MemoryOptions{MaxKeys: 64}), nil)
	if ok, err := s.Take(context.Background(), make([]Ask, 2), nil); ok || err == nil || !strings.Contains(err.Error(), "0 answers to 2 asks") {
		t.Errorf("got %v, %v", ok, err)
	}
}
