package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/config"
)

// maxRunning bounds what is read of a gateway's /config, in bytes.
const maxRunning = 16 << 20

// configDiff says how one configuration differs from another, or from that of a
// running gateway.
func configDiff(args []string) error {
	f := newFlags("config diff")
	at := f.String("admin", or(os.Getenv("SLUICE_ADMIN_ADDR"), "127.0.0.1:9901"), "`HOST:PORT` of the running gateway's admin listener (SLUICE_ADMIN_ADDR)")
	names, err := parseNames(f, args)
	if err != nil {
		return quiet(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if len(names) == 2 {
		return diffFiles(ctx, names[0], names[1])
	}
	if len(names) != 1 {
		return errors.New("usage: sluice config diff FROM TO, or sluice config diff TO for the changes to the running gateway")
	}
	return diffRunning(ctx, *at, names[0])
}

// parseNames lets flags stand before and after names.
func parseNames(f *flag.FlagSet, args []string) (names []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		if args = f.Args(); len(args) == 0 {
			return names, nil
		}
		names, args = append(names, args[0]), args[1:]
	}
}

func or(v, otherwise string) string {
	if v == "" {
		return otherwise
	}
	return v
}

// diffFiles compares by what stands in the files, whatever this environment.
func diffFiles(ctx context.Context, from, to string) error {
	none := func(string) string { return "" }
	a, err := config.Read(ctx, from, none)
	if err != nil {
		return err
	}
	b, err := config.Read(ctx, to, none)
	if err != nil {
		return err
	}
	return printChanges(os.Stdout, config.Diff(a, b), "the two say the same")
}

// diffRunning compares with what a gateway uses, under this environment, which is
// to be the gateway's.
func diffRunning(ctx context.Context, at, to string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+local(at)+"/config", http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("no gateway answers (name its admin listener with --admin, or two configurations): %w", err)
	}
	defer func() { _ = res.Body.Close() }() // Only read.
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s/config answers %s", at, res.Status)
	}
	var running admin.ConfigStatus
	if err := json.NewDecoder(io.LimitReader(res.Body, maxRunning)).Decode(&running); err != nil {
		return fmt.Errorf("%s/config answers what is no configuration: %w", at, err)
	}
	next, err := config.Read(ctx, to, os.Getenv)
	if err != nil {
		return err
	}
	changes, err := config.DiffRunning(running.Config, next)
	if err != nil {
		return err
	}
	return printChanges(os.Stdout, changes, "the gateway uses it already (its secrets are not compared)")
}

// printChanges writes a line for each change.
func printChanges(w io.Writer, changes []config.Change, none string) error {
	if len(changes) == 0 {
		_, err := fmt.Fprintln(w, none)
		return err
	}
	for _, c := range changes {
		line := ""
		switch {
		case c.Secret:
			line = fmt.Sprintf("~ %s: another secret", c.Key)
		case c.From == "":
			line = fmt.Sprintf("+ %s: %s", c.Key, c.To)
		case c.To == "":
			line = fmt.Sprintf("- %s: %s", c.Key, c.From)
		default:
			line = fmt.Sprintf("~ %s: %s -> %s", c.Key, c.From, c.To)
		}
		if c.NeedsRestart {
			line += "  (needs a restart)"
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
