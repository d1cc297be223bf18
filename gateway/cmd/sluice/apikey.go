package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-gateway/sluice/gateway/auth"
)

// apikeyCreate makes an API key: prints the key, this once, and what to store.
func apikeyCreate(args []string) error { return createAPIKey(args, os.Stdout, time.Now()) }

// storedKeys is a sluice.config.v1.ApiKeyFile in YAML.
type storedKeys struct {
	Keys []storedKey `yaml:"keys"`
}

type storedKey struct {
	ID         string   `yaml:"id"`
	Hash       string   `yaml:"hash"`
	Owner      string   `yaml:"owner"`
	Scopes     []string `yaml:"scopes,omitempty,flow"`
	Tenant     string   `yaml:"tenant,omitempty"`
	LimitClass string   `yaml:"limit_class,omitempty"`
	Expires    string   `yaml:"expires,omitempty"`
}

func createAPIKey(args []string, out io.Writer, now time.Time) error {
	f := newFlags("apikey create")
	owner := f.String("owner", "", "`NAME` the key speaks for, such as ada")
	scope := f.String("scope", "", "scopes, separated by spaces")
	id := f.String("id", "", "`NAME` of the key in logs and limits (default: the owner's and a random end)")
	tenant := f.String("tenant", "", "tenant of the owner")
	class := f.String("limit-class", "", "limit class that stands in for those of the rules")
	expires := f.String("expires", "", "how long the key is good for, such as 90d, or the day (UTC) it ends, such as 2027-01-01 (default: for ever)")
	if err := parse(f, args); err != nil {
		return quiet(err)
	}
	if *owner == "" {
		return errors.New("apikey create needs --owner NAME")
	}
	k := auth.APIKey{ID: *id, Owner: *owner, Scopes: strings.Fields(*scope), Tenant: *tenant, LimitClass: *class}
	if k.ID == "" {
		k.ID = keyName(*owner)
	}
	if *expires != "" {
		var err error
		if k.Expires, err = parseExpiry(*expires, now); err != nil {
			return err
		}
	}
	key, k, err := auth.NewAPIKey(k)
	if err != nil {
		return err
	}
	return printAPIKey(out, key, k)
}

// printAPIKey puts the key alone on the first line, for scripts.
func printAPIKey(out io.Writer, key string, k auth.APIKey) error {
	s := storedKey{ID: k.ID, Hash: k.Hash, Owner: k.Owner, Scopes: k.Scopes, Tenant: k.Tenant, LimitClass: k.LimitClass}
	if !k.Expires.IsZero() {
		s.Expires = k.Expires.UTC().Format(time.RFC3339)
	}
	stored, err := yaml.Marshal(storedKeys{Keys: []storedKey{s}})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, `%s

# The key is shown this once: send it as X-API-Key. The gateway keeps only the
# lines below, under auth.api_keys of the configuration, or as they stand in the
# file that auth.api_keys.file names, which is read again when it changes.
%s`, key, stored)
	return err
}

// keyName makes an id from what of the owner can be in one.
func keyName(owner string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, owner)
	name = strings.Trim(name[:min(len(name), 48)], "-")
	if name == "" {
		name = "key"
	}
	return name + "-" + strings.ToLower(rand.Text()[:8])
}

func parseExpiry(s string, now time.Time) (time.Time, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		t, err = time.Parse(time.RFC3339, s)
	}
	if days, ok := strings.CutSuffix(s, "d"); ok && err != nil {
		var n uint64
		if n, err = strconv.ParseUint(days, 10, 16); err == nil {
			t = now.AddDate(0, 0, int(n))
		}
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("--expires %q: want days such as 90d, or a day such as 2027-01-01", s)
	}
	if !t.After(now) {
		return time.Time{}, fmt.Errorf("--expires %q: is not in the future", s)
	}
	return t.UTC().Truncate(time.Second), nil
}
