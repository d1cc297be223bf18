package handover

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// What is said to systemd, see sd_notify(3).
const (
	sdReady    = daemon.SdNotifyReady
	sdStopping = daemon.SdNotifyStopping
	sdStatus   = "STATUS="
)

// notify says it in one message. Where nobody listens, it does nothing.
func notify(state ...string) error {
	if _, err := daemon.SdNotify(false, strings.Join(state, "\n")); err != nil {
		return fmt.Errorf("tell systemd %s: %w", state[0], err)
	}
	return nil
}

// Reloading says that the configuration is being read again; Reloaded must
// follow, whatever came of it. Units of Type=notify-reload wait for both.
func (p *Process) Reloading() error {
	if p.replaced.Load() {
		return nil
	}
	return notify(daemon.SdNotifyReloading, "MONOTONIC_USEC="+strconv.FormatInt(monotonic().Microseconds(), 10))
}

// Reloaded says that reading is over, and in a few words how it went.
func (p *Process) Reloaded(status string) error {
	if p.replaced.Load() {
		return nil
	}
	return notify(sdReady, sdStatus+strings.ReplaceAll(status, "\n", " "))
}

// ownWatchdog makes the watchdog's interval hold for this process, too: systemd
// has named the process that it has started.
func ownWatchdog() error {
	if of := os.Getenv("WATCHDOG_PID"); of == "" || of != strconv.Itoa(os.Getppid()) {
		return nil
	}
	return os.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
}

// Watchdog tells systemd that the process lives for as long as alive says so, at
// half the interval of WatchdogSec=, until ctx ends. Without an interval it
// returns at once. alive is given as much time as there is until the next turn.
func (p *Process) Watchdog(ctx context.Context, log *slog.Logger, alive func(context.Context) error) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("no watchdog", "error", err)
	}
	if interval <= 0 {
		return
	}
	turn := time.NewTicker(interval / 2)
	defer turn.Stop()
	for !p.replaced.Load() {
		p.turn(ctx, interval/2, log, alive)
		select {
		case <-ctx.Done():
			return
		case <-turn.C:
		}
	}
}

func (p *Process) turn(ctx context.Context, most time.Duration, log *slog.Logger, alive func(context.Context) error) {
	asked, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	err := alive(asked)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		err = notify(daemon.SdNotifyWatchdog)
	}
	if err != nil {
		log.Error("the watchdog is not told that all is well", "error", err)
	}
}
