package idempotency_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	testv1 "github.com/sluice-gateway/sluice/gen/sluice/test/v1"
	"github.com/sluice-gateway/sluice/services/kit/database"
	"github.com/sluice-gateway/sluice/services/kit/dbtest"
	"github.com/sluice-gateway/sluice/services/kit/idempotency"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var schema = fstest.MapFS{"00001_t.sql": {Data: []byte(`-- +goose Up
CREATE TABLE test_idempotency_keys (
    scope TEXT NOT NULL, request_id TEXT NOT NULL, fingerprint BYTEA NOT NULL,
    response BYTEA NOT NULL, expire_at BIGINT NOT NULL, PRIMARY KEY (scope, request_id));
CREATE TABLE made (name TEXT NOT NULL);
`)}}

func open(t *testing.T, dsn string) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), dsn, "test", schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// call is the server's side of a call, which keeps the headers.
type call struct {
	grpc.ServerTransportStream
	header metadata.MD
}

func (c *call) SetHeader(md metadata.MD) error {
	c.header = metadata.Join(c.header, md)
	return nil
}

// create makes name under a key, as a method would, and says whether the answer
// was a replay.
func create(t *testing.T, db *database.DB, k *idempotency.Keys, scope, id, name string, fail error) (*testv1.EchoResponse, bool, error) {
	t.Helper()
	c := &call{}
	ctx := grpc.NewContextWithServerTransportStream(t.Context(), c)
	r := idempotency.Request{Scope: scope, ID: id, Message: &testv1.EchoRequest{Id: name}}
	resp, err := idempotency.Do(ctx, k, r, &testv1.EchoResponse{}, func(tx *sql.Tx) (*testv1.EchoResponse, error) {
		if _, err := tx.ExecContext(ctx, `INSERT INTO made (name) VALUES ($1)`, name); err != nil {
			return nil, err
		}
		return &testv1.EchoResponse{Id: fmt.Sprint(name, made(ctx, tx)), Metadata: map[string]string{"a": "1", "b": "2"}}, fail
	})
	return resp, len(c.header.Get(idempotency.ReplayedKey)) == 1 && c.header.Get(idempotency.ReplayedKey)[0] == "true", err
}

func made(ctx context.Context, q interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}) (n int) {
	if err := q.QueryRowContext(ctx, `SELECT COUNT(*) FROM made`).Scan(&n); err != nil {
		return -1
	}
	return n
}

func TestKeys(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, e dbtest.Engine) {
		t.Run("steps", func(t *testing.T) { steps(t, open(t, e.DSN(t))) })
		t.Run("equal requests at once", func(t *testing.T) { atOnce(t, e) })
		t.Run("purge", func(t *testing.T) { purge(t, open(t, e.DSN(t))) })
	})
}

// steps is one history of a table of keys, each step after the other.
func steps(t *testing.T, db *database.DB) {
	now := time.Now()
	keys := idempotency.New(db, "test", func() time.Time { return now })
	boom := errors.New("boom")
	for i, s := range []struct {
		scope, id, name string
		later           time.Duration
		fail            error
		want            string
		replayed        bool
		code            codes.Code
		made            int
	}{
		{scope: "ada", id: "k1", name: "x", want: "x1", made: 1},
		{scope: "ada", id: "k1", name: "x", want: "x1", replayed: true, made: 1},
		{scope: "ada", id: "k1", name: "y", code: codes.Aborted, made: 1},
		{scope: "ada", id: "k1", name: "x", want: "x1", replayed: true, made: 1}, // The misuse changed nothing.
		{scope: "grace", id: "k1", name: "x", want: "x2", made: 2},
		{scope: "ada", id: "k2", name: "x", want: "x3", made: 3},
		{scope: "ada", id: "", name: "x", want: "x4", made: 4},
		{scope: "ada", id: "", name: "x", want: "x5", made: 5},
		{scope: "ada", id: "k3", name: "x", fail: boom, made: 5}, // A failure leaves no key.
		{scope: "ada", id: "k3", name: "other", want: "other6", made: 6},
		{later: idempotency.Lifetime - time.Second, scope: "ada", id: "k1", name: "x", want: "x1", replayed: true, made: 6},
		{later: time.Second, scope: "ada", id: "k1", name: "z", want: "z7", made: 7}, // Expired: free for anything.
		{scope: "ada", id: "k1", name: "z", want: "z7", replayed: true, made: 7},
	} {
		now = now.Add(s.later)
		resp, replayed, err := create(t, db, keys, s.scope, s.id, s.name, s.fail)
		switch {
		case s.fail != nil:
			if !errors.Is(err, s.fail) {
				t.Fatalf("step %d: err = %v", i, err)
			}
		case s.code != codes.OK:
			st := status.Convert(err)
			if st.Code() != s.code || len(st.Details()) != 1 || st.Details()[0].(*errdetails.ErrorInfo).GetReason() != "IDEMPOTENCY_KEY_REUSED" {
				t.Fatalf("step %d: err = %v %v", i, err, st.Details())
			}
		case err != nil || resp.GetId() != s.want || replayed != s.replayed || len(resp.GetMetadata()) != 2:
			t.Fatalf("step %d: answer = %v, replayed %v, %v; want %s, %v", i, resp, replayed, err, s.want, s.replayed)
		}
		if n := made(t.Context(), db.Read); n != s.made {
			t.Fatalf("step %d: %d made, want %d", i, n, s.made)
		}
	}
}

// atOnce sends one request many times, at two processes.
func atOnce(t *testing.T, e dbtest.Engine) {
	dsn := e.DSN(t)
	dbs := []*database.DB{open(t, dsn), open(t, dsn)}
	keys := []*idempotency.Keys{idempotency.New(dbs[0], "test", nil), idempotency.New(dbs[1], "test", nil)}
	const requests = 16
	var (
		wg       sync.WaitGroup
		replays  atomic.Int32
		answered [requests]*testv1.EchoResponse
	)
	for i := range requests {
		wg.Go(func() {
			resp, replayed, err := create(t, dbs[i%2], keys[i%2], "ada", "same", "x", nil)
			if err != nil {
				t.Error(err)
			}
			if replayed {
				replays.Add(1)
			}
			answered[i] = resp
		})
	}
	wg.Wait()
	if n := made(t.Context(), dbs[0].Read); n != 1 || replays.Load() != requests-1 {
		t.Fatalf("%d made and %d replays of %d requests", n, replays.Load(), requests)
	}
	for _, a := range answered[1:] {
		if !proto.Equal(a, answered[0]) {
			t.Fatalf("answers differ: %v and %v", a, answered[0])
		}
	}
}

func purge(t *testing.T, db *database.DB) {
	now := time.Now()
	keys := idempotency.New(db, "test", func() time.Time { return now })
	for _, id := range []string{"a", "b"} {
		if _, _, err := create(t, db, keys, "ada", id, "x", nil); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := keys.Purge(t.Context()); n != 0 || err != nil {
		t.Fatalf("purged %d young keys, %v", n, err)
	}
	now = now.Add(idempotency.Lifetime)
	stop := keys.PurgeEvery(time.Hour, func(err error) { t.Error(err) })
	defer stop()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var left int
		if err := db.Read.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM test_idempotency_keys`).Scan(&left); err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d old keys are left", left)
		}
	}
}
