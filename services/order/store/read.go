package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/services/kit"
	"github.com/sluice-gateway/sluice/services/kit/database"
	"github.com/sluice-gateway/sluice/services/order/domain"
)

// List returns up to n of a user's orders after a place, the newest first.
func (s *Store) List(ctx context.Context, userID string, after kit.Cursor, n int) ([]domain.Order, error) {
	before := after.Time.UnixMicro()
	if after.IsZero() {
		before = math.MaxInt64
	}
	rows, err := s.list.QueryContext(ctx, userID, before, after.ID, n)
	return database.Collect("list orders", rows, err, func(rows *sql.Rows) (domain.Order, error) { return scan(rows) })
}

// Event is an order's arrival in a state.
type Event struct {
	Revision int64
	State    domain.State
	Updated  time.Time
}

// maxEvents bounds what one read of events answers; an order has at most four
// states on its way.
const maxEvents = 16

// Events returns the events of an order after a revision, in order.
func (s *Store) Events(ctx context.Context, id string, after int64) ([]Event, error) {
	rows, err := s.events.QueryContext(ctx, id, after, maxEvents)
	return database.Collect("read events", rows, err, func(rows *sql.Rows) (e Event, err error) {
		var updated int64
		err = rows.Scan(&e.Revision, &e.State, &updated)
		e.Updated = time.UnixMicro(updated).UTC()
		return e, err
	})
}

// revisionSizes are how many ids one query of Revisions asks for, the last one
// repeated to fill it up: few texts of SQL, so that the engines' plans are reused.
var revisionSizes = [...]int{1, 16, 256}

// Revisions calls report with the latest revision in the history of each of the
// orders that exist.
func (s *Store) Revisions(ctx context.Context, ids []string, report func(id string, revision int64)) error {
	for len(ids) > 0 {
		size := revisionSizes[0]
		for _, size = range revisionSizes {
			if size >= len(ids) {
				break
			}
		}
		part := ids[:min(size, len(ids))]
		ids = ids[len(part):]
		if err := s.revisions(ctx, part, size, report); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) revisions(ctx context.Context, ids []string, size int, report func(string, int64)) error {
	args, marks := make([]any, size), make([]string, size)
	for i := range args {
		args[i], marks[i] = ids[min(i, len(ids)-1)], fmt.Sprintf("$%d", i+1)
	}
	rows, err := s.db.Read.QueryContext(ctx, `SELECT order_id, MAX(revision) FROM order_events WHERE order_id IN (`+
		strings.Join(marks, ", ")+`) GROUP BY order_id`, args...)
	_, err = database.Collect("read revisions", rows, err, func(rows *sql.Rows) (struct{}, error) {
		var (
			id       string
			revision int64
		)
		if err := rows.Scan(&id, &revision); err != nil {
			return struct{}{}, err
		}
		report(id, revision)
		return struct{}{}, nil
	})
	return err
}

func scan(row interface{ Scan(...any) error }) (domain.Order, error) {
	var (
		o                domain.Order
		lines            []byte
		created, updated int64
	)
	err := row.Scan(&o.ID, &o.UserID, &lines, &o.Total.Currency, &o.Total.Units, &o.Total.Nanos, &o.Note,
		&o.State, &o.Revision, &created, &updated)
	if err != nil {
		return o, err
	}
	o.Created, o.Updated = time.UnixMicro(created).UTC(), time.UnixMicro(updated).UTC()
	o.Lines, err = unmarshalLines(lines)
	return o, err
}
