// Package idempotency makes creation repeatable (AIP-155): a request sent again
// with the same key answers the first answer again, byte for byte, also when both
// arrive at once, at two processes.
//
// The key is claimed in the transaction that creates: the second of two equal
// requests waits for the first to commit and then finds its answer. A creation
// that fails leaves no key behind.
package idempotency

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/database"
)

const (
	// ReplayedKey is the header metadata ("true") of an answer given again.
	ReplayedKey = "idempotency-replayed"
	// Lifetime is how long a key is remembered.
	Lifetime = 24 * time.Hour
)

// Keys remembers the keys of one service, in its database. It is safe for
// concurrent use.
type Keys struct {
	db *database.DB
	// table is {service}_idempotency_keys.
	table string
	now   func() time.Time
}

// New returns the keys in the service's table, made by the service's migrations:
//
//	CREATE TABLE {service}_idempotency_keys (
//	    scope TEXT NOT NULL, request_id TEXT NOT NULL, fingerprint BYTEA NOT NULL,
//	    response BYTEA NOT NULL, expire_at BIGINT NOT NULL, PRIMARY KEY (scope, request_id));
//
// A nil now means the clock.
func New(db *database.DB, service string, now func() time.Time) *Keys {
	if now == nil {
		now = kit.Now
	}
	return &Keys{db: db, table: service + "_idempotency_keys", now: now}
}

// Request is a creation that may be repeated.
type Request struct {
	// Scope is whose key it is: two users may choose the same.
	Scope string
	// ID is the key; "" means that the request cannot be told from others, and is
	// run each time.
	ID string
	// Message is the request. Sent again it must be equal.
	Message proto.Message
}

// Do runs create in a transaction and returns its answer, or the first answer
// into answer where the request was seen before; the header ReplayedKey then says
// so. The same key with another message is ABORTED, IDEMPOTENCY_KEY_REUSED.
func Do[M proto.Message](ctx context.Context, k *Keys, r Request, answer M, create func(*sql.Tx) (M, error)) (M, error) {
	var (
		out      M
		replayed bool
	)
	err := k.db.Tx(ctx, func(tx *sql.Tx) error {
		if r.ID == "" {
			created, err := create(tx)
			out = created
			return err
		}
		first, err := k.claim(ctx, tx, r)
		if err != nil {
			return err
		}
		if first != nil {
			out, replayed = answer, true
			return proto.Unmarshal(first, answer)
		}
		if out, err = create(tx); err != nil {
			return err
		}
		return k.remember(ctx, tx, r, out)
	})
	if err != nil {
		var none M
		return none, err
	}
	if replayed {
		if err := grpc.SetHeader(ctx, metadata.Pairs(ReplayedKey, "true")); err != nil {
			return out, fmt.Errorf("replay header: %w", err)
		}
	}
	return out, nil
}

// claim takes the key, or returns the answer that was given under it. The upsert
// waits for another transaction that holds the key, and takes over a key that has
// expired.
func (k *Keys) claim(ctx context.Context, tx *sql.Tx, r Request) (first []byte, err error) {
	want, err := fingerprint(r.Message)
	if err != nil {
		return nil, err
	}
	now := k.now()
	res, err := tx.ExecContext(ctx, `INSERT INTO `+k.table+` AS k (scope, request_id, fingerprint, response, expire_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (scope, request_id) DO UPDATE SET fingerprint = excluded.fingerprint, expire_at = excluded.expire_at
WHERE k.expire_at <= $6`,
		r.Scope, r.ID, want, []byte{}, now.Add(Lifetime).UnixMicro(), now.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("claim request_id: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return nil, err
	}
	var got []byte
	err = tx.QueryRowContext(ctx, `SELECT fingerprint, response FROM `+k.table+` WHERE scope = $1 AND request_id = $2`,
		r.Scope, r.ID).Scan(&got, &first)
	if err != nil {
		return nil, fmt.Errorf("read request_id: %w", err)
	}
	if !bytes.Equal(got, want) {
		return nil, kit.IdempotencyKeyReused()
	}
	if first == nil {
		first = []byte{}
	}
	return first, nil
}

func (k *Keys) remember(ctx context.Context, tx *sql.Tx, r Request, answer proto.Message) error {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(answer)
	if err != nil {
		return fmt.Errorf("keep the answer: %w", err)
	}
	_, err = tx.ExecContext(ctx, `UPDATE `+k.table+` SET response = $3 WHERE scope = $1 AND request_id = $2`, r.Scope, r.ID, raw)
	if err != nil {
		return fmt.Errorf("keep the answer: %w", err)
	}
	return nil
}

func fingerprint(m proto.Message) ([]byte, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("fingerprint: %w", err)
	}
	sum := sha256.Sum256(raw)
	return sum[:], nil
}

// Purge deletes the keys that have expired and returns how many.
func (k *Keys) Purge(ctx context.Context) (int64, error) {
	res, err := k.db.Write.ExecContext(ctx, `DELETE FROM `+k.table+` WHERE expire_at <= $1`, k.now().UnixMicro())
	if err != nil {
		return 0, fmt.Errorf("purge request_ids: %w", err)
	}
	return res.RowsAffected()
}

// PurgeEvery purges at once and then every interval, until the returned stop is
// called, which waits for the end. Failures go to report.
func (k *Keys) PurgeEvery(interval time.Duration, report func(error)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			if _, err := k.Purge(ctx); err != nil && !errors.Is(err, context.Canceled) {
				report(err)
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() { cancel(); <-done }
}
