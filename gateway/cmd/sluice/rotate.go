package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-gateway/sluice/gateway/auth"
	"github.com/sluice-gateway/sluice/gateway/config"
)

const rotateHelp = `Give the gateway another key for its assertions while gateways and services run:

  1. what an earlier rotation left is retired
  2. a new key is made and published in the .pub.pem file; it signs nothing yet
  3. after --settle, the new key signs; the old one stays published
  4. with --retire, after --settle and the life of an assertion, the old key is
     taken away; without, by the next rotation or by keys retire

Gateways and services look at their files every five seconds. --settle must be
longer than the public halves take to reach the last service: where they are
copied (a Kubernetes ConfigMap takes a minute or two), give it that time. It may
be stopped at any point, and run again.

`

const retireHelp = `Take away the keys of the assertions that no longer sign, once nobody uses what
they have signed: --settle and the life of an assertion after the last change.

`

func keysRotate(args []string) error {
	r, retire, err := parseRotation("keys rotate", rotateHelp, args, os.Stdout)
	if err != nil {
		return quiet(err)
	}
	return r.rotate(retire)
}

func keysRetire(args []string) error {
	r, _, err := parseRotation("keys retire", retireHelp, args, os.Stdout)
	if err != nil {
		return quiet(err)
	}
	return r.retire()
}

// rotation is a rotation of keys with its waits.
type rotation struct {
	auth.KeyRotation
	settle time.Duration // For files to be read.
	ttl    time.Duration // Of an assertion.
	out    io.Writer
}

func parseRotation(name, help string, args []string, out io.Writer) (r *rotation, retire bool, err error) {
	f := newFlags(name)
	file := f.String("config", os.Getenv("SLUICE_CONFIG"), "configuration `FILE`, for assertion and data_dir")
	key := f.String("key", "", "key `FILE` (default: that of the configuration)")
	public := f.String("public", "", "second `DIR` for the public halves, as with sluice keys")
	settle := f.Duration("settle", 30*time.Second, "how long it takes until every gateway and service has read a change")
	if name == "keys rotate" {
		f.BoolVar(&retire, "retire", false, "wait, and take the old key away")
	}
	usage := f.Usage
	f.Usage = func() {
		fmt.Fprint(f.Output(), help)
		usage()
	}
	if err := parse(f, args); err != nil {
		return nil, false, err
	}
	if *settle < 0 {
		return nil, false, errors.New("--settle must not be negative")
	}
	cfg, err := config.Load(*file, os.Getenv)
	if err != nil {
		return nil, false, err
	}
	if *key == "" {
		*key = cfg.GetAssertion().GetKeyFile()
	}
	r = &rotation{KeyRotation: auth.KeyRotation{File: *key}, settle: *settle, ttl: cfg.GetAssertion().GetTtl().AsDuration(), out: out}
	if *public != "" {
		r.Copies = []string{filepath.Join(*public, "assertion-key.pub.pem")}
	}
	return r, retire, nil
}

func (r *rotation) rotate(retire bool) error {
	if err := r.retire(); err != nil {
		return err
	}
	if err := r.Add(); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "a new key is published; it signs in %v\n", r.settle)
	time.Sleep(r.settle)
	if err := r.Promote(); err != nil {
		return err
	}
	fmt.Fprintln(r.out, "the new key signs; the old one stays published")
	if !retire {
		return nil
	}
	return r.retire()
}

// retire drops the keys that do not sign. The last change may have been that one
// of them ceased to: a gateway that has not read it signs with it still, and what
// it signs is good for the life of an assertion.
func (r *rotation) retire() error {
	n, changed, err := r.Keys()
	if err != nil || n < 2 {
		return err
	}
	// No longer than that, whatever the clock of the file's machine says.
	if wait := min(r.settle+r.ttl-time.Since(changed), r.settle+r.ttl); wait > 0 {
		fmt.Fprintf(r.out, "what is signed with the old key ends in %v\n", wait.Round(time.Second))
		time.Sleep(wait)
	}
	if err := r.Retire(); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "%d old keys are gone\n", n-1)
	return nil
}
