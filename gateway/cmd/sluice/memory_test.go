package main

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

func TestDecideMemory(t *testing.T) {
	const mib = 1 << 20
	broken := errors.New("mountinfo makes no sense")
	fails := func(err error) memlimit.Provider { return func() (uint64, error) { return 0, err } }
	for _, tc := range []struct {
		name      string
		env       map[string]string
		container memlimit.Provider
		want      memorySettings
		warns     bool
	}{
		{"a container", nil, memlimit.Limit(128 * mib), memorySettings{percent: 200, limit: 114085068, container: 128 * mib}, false},
		{"a container without a limit", nil, fails(memlimit.ErrNoLimit), memorySettings{percent: 200}, false},
		{"no container", nil, fails(memlimit.ErrNoCgroup), memorySettings{percent: 200}, false},
		{"another system", nil, fails(memlimit.ErrCgroupsNotSupported), memorySettings{percent: 200}, false},
		{"a container that cannot be read", nil, fails(broken), memorySettings{percent: 200, problem: broken}, true},
		{"no memory at all", nil, memlimit.Limit(0), memorySettings{percent: 200}, false},
		{"more memory than there is", nil, memlimit.Limit(math.MaxUint64), memorySettings{percent: 200}, false},
		{"GOGC", map[string]string{"GOGC": "50"}, memlimit.Limit(100), memorySettings{limit: 85, container: 100}, false},
		{"GOGC off", map[string]string{"GOGC": "off"}, memlimit.Limit(100), memorySettings{limit: 85, container: 100}, false},
		{"GOMEMLIMIT", map[string]string{"GOMEMLIMIT": "1GiB"}, memlimit.Limit(100), memorySettings{percent: 200}, false},
		{"GOMEMLIMIT off", map[string]string{"GOMEMLIMIT": "off"}, fails(broken), memorySettings{percent: 200}, false},
		{"both", map[string]string{"GOGC": "100", "GOMEMLIMIT": "1GiB"}, memlimit.Limit(100), memorySettings{}, false},
		{"both empty", map[string]string{"GOGC": "", "GOMEMLIMIT": ""}, memlimit.Limit(100), memorySettings{percent: 200, limit: 85, container: 100}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := decideMemory(func(key string) string { return tc.env[key] }, tc.container)
			if got != tc.want { //nolint:errorlint // The very error.
				t.Errorf("%+v, want %+v", got, tc.want)
			}
			var b bytes.Buffer
			got.log(slog.New(slog.NewJSONHandler(&b, nil)))
			if warned := strings.Contains(b.String(), "mountinfo"); warned != tc.warns {
				t.Errorf("logged %q", b.String())
			}
		})
	}
}
