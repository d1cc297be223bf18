package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/redis/rueidis"
)

// dialOption reads the URL. Its errors do not repeat it: it may hold a password.
func dialOption(raw, password string) (rueidis.ClientOption, error) {
	wrong := func(what string) (rueidis.ClientOption, error) {
		return rueidis.ClientOption{}, errors.New("redis: the URL " + what + "; it must be redis://[user:password@]host:port[/db], or rediss://…")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Opaque != "":
		return wrong("is none")
	case u.Scheme != "redis" && u.Scheme != "rediss":
		return wrong("has another scheme")
	case u.Hostname() == "":
		return wrong("names no host")
	case u.RawQuery != "" || u.Fragment != "":
		return wrong("has parameters") // Such as skip_verify.
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	db := 0
	if path := strings.TrimPrefix(u.Path, "/"); path != "" {
		if db, err = strconv.Atoi(path); err != nil || db < 0 {
			return wrong("has a database that is no number")
		}
	}
	o := rueidis.ClientOption{
		InitAddress: []string{net.JoinHostPort(u.Hostname(), port)},
		Username:    u.User.Username(), Password: password, SelectDB: db, ClientName: "sluice",
		ForceSingleClient: true, // No cluster: the keys of a decision would lie on several nodes.
		DisableCache:      true, DisableRetry: true,
		AlwaysPipelining:    true, // Else a deadline would close the connection.
		PipelineMultiplex:   -1,   // One connection: Redis has one thread for scripts.
		ReadBufferEachConn:  1 << 16,
		WriteBufferEachConn: 1 << 16,
		// rueidis's own idea of a dead peer; the probe is usually faster.
		ConnWriteTimeout: 2 * giveUp,
	}
	o.Dialer.Timeout = dialTimeout
	if o.Password == "" {
		o.Password, _ = u.User.Password()
	}
	if u.Scheme == "rediss" {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	}
	return o, nil
}

// connect dials once, for dialTimeout at most. The client it returns never dials
// again: rueidis would do so in the middle of a decision, and let others wait for
// it without looking at their deadlines.
func connect(o rueidis.ClientOption) (rueidis.Client, error) {
	var dialed atomic.Bool
	o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		if dialed.Swap(true) {
			return nil, errNotConnected
		}
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		if t == nil {
			return d.DialContext(ctx, "tcp", addr)
		}
		return (&tls.Dialer{NetDialer: d, Config: t}).DialContext(ctx, "tcp", addr)
	}
	client, err := rueidis.NewClient(o)
	if err != nil && client != nil {
		client.Close() // A single client comes back even when it could not connect.
		client = nil
	}
	return client, err
}
