package order

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/services/order/domain"
	"github.com/sluice-gateway/sluice/services/order/store"
)

// seed writes the demo's orders, with the history that led to their states.
func seed(ctx context.Context, s *store.Store) error {
	return s.DB().Once(ctx, store.Service, "seed", func(tx *sql.Tx) error {
		for _, d := range demoOrders() {
			if err := insertDemo(ctx, s, tx, d); err != nil {
				return fmt.Errorf("seed %s: %w", d.id, err)
			}
		}
		return nil
	})
}

// demo is an order and the states that followed its placing, an hour apart.
type demo struct {
	id, userID, note string
	lines            []domain.Line
	placed           time.Time
	then             []domain.State
}

func insertDemo(ctx context.Context, s *store.Store, tx *sql.Tx, d demo) error {
	o, err := domain.Place(d.id, d.userID, d.note, d.lines, d.placed)
	if err != nil {
		return err
	}
	if err := s.Insert(ctx, tx, o); err != nil {
		return err
	}
	for i, state := range d.then {
		at := d.placed.Add(time.Duration(i+1) * time.Hour)
		_, err := s.MoveIn(ctx, tx, d.id, at, func(domain.Order) (domain.State, error) { return state, nil })
		if err != nil {
			return err
		}
	}
	return nil
}

func demoOrders() []demo {
	var (
		delivered = []domain.State{domain.Paid, domain.Shipped, domain.Delivered}
		shipped   = delivered[:2]
		paid      = delivered[:1]
		cancelled = []domain.State{domain.Cancelled}
		refunded  = []domain.State{domain.Paid, domain.Cancelled}
		placed    []domain.State
	)
	var out []demo
	for _, u := range []struct {
		userID string
		then   [][]domain.State
	}{
		{"ada", [][]domain.State{delivered, delivered, cancelled, delivered, delivered, refunded, delivered, shipped, shipped, paid, paid, placed}},
		{"grace", [][]domain.State{delivered, shipped, placed}},
		{"alan", [][]domain.State{delivered, paid}},
	} {
		for i, then := range u.then {
			d := demo{
				id: fmt.Sprintf("%s-%04d", u.userID, i+1), userID: u.userID, lines: demoLines(i),
				placed: time.Date(2026, time.February, 1+i, 10, 0, 0, 0, time.UTC), then: then,
			}
			if i == 0 {
				d.note = "Please ring twice."
			}
			out = append(out, d)
		}
	}
	return out
}

// demoLines returns the lines of a user's order by its number, one to three.
func demoLines(order int) []domain.Line {
	euros := func(units int64, cents int32) domain.Money {
		return domain.Money{Currency: "EUR", Units: units, Nanos: cents * 10_000_000}
	}
	catalogue := []domain.Line{
		{SKU: "punch-cards", Title: "Punch cards, 100", Price: euros(12, 50)},
		{SKU: "brass-gear-12", Title: "Brass gear, 12 teeth", Price: euros(7, 99)},
		{SKU: "paper-tape", Title: "Paper tape, 1000 ft", Price: euros(24, 0)},
		{SKU: "nanosecond-wire", Title: "Wire, 11.8 inches", Price: euros(0, 5)},
		{SKU: "rotor-iii", Title: "Rotor III", Price: euros(149, 95)},
	}
	lines := make([]domain.Line, 0, 3)
	for i := range order%3 + 1 {
		l := catalogue[(order+i)%len(catalogue)]
		l.Quantity = int32(i*2 + 1) //nolint:gosec // 1, 3 or 5
		lines = append(lines, l)
	}
	return lines
}
