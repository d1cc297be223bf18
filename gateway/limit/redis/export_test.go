package redis

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/gateway/limit"
)

// Up says whether decisions are Redis's now.
func (s *Store) Up() bool { return s.state.up.Load() && s.conn.Load() != nil }

// InFlight is how many decisions Redis is asked for now.
func (s *Store) InFlight() int { return len(s.slots) }

// Key names a budget in Redis.
func Key(prefix string, a *limit.Ask) string { return key(prefix, a) }

// DialOption reads a URL.
var DialOption = dialOption

// Clocked runs the store's script by a clock of the test's.
type Clocked struct {
	store  *Store
	client rueidis.Client
	script *rueidis.Lua
	now    func() time.Time
}

// NewClocked connects to a Redis at url.
func NewClocked(t testing.TB, url string, now func() time.Time) *Clocked {
	t.Helper()
	patched := source
	for _, p := range [][2]string{
		{"redis.call('TIME')", "{ARGV[#ARGV - 1], ARGV[#ARGV]}"},
		// Keys expire by Redis's clock, which runs on while the test's stands still.
		{"local function ttl(ns) return", "local function ttl(ns) return 3.6e6 +"},
	} {
		if strings.Count(patched, p[0]) != 1 {
			t.Fatalf("%s is not in the script once", p[0])
		}
		patched = strings.Replace(patched, p[0], p[1], 1)
	}
	o, err := dialOption(url, "")
	if err != nil {
		t.Fatal(err)
	}
	client, err := connect(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &Clocked{&Store{prefix: "clocked:"}, client, rueidis.NewLuaScript(patched), now}
}

// Take implements limit.Store.
func (c *Clocked) Take(ctx context.Context, asks []limit.Ask, answers []limit.Answer) (bool, error) {
	keys, args := c.store.command(asks)
	now := c.now()
	args = append(args, strconv.FormatInt(now.Unix(), 10), strconv.Itoa(now.Nanosecond()/1000))
	return parse(c.script.Exec(ctx, c.client, keys, args), answers)
}

// Close implements limit.Store.
func (c *Clocked) Close() error { return nil }
