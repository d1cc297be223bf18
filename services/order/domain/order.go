// Package domain is what an order is, what it comes to and how it moves from
// state to state. It knows neither gRPC messages nor SQL: order/server and
// order/store translate.
package domain

import (
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/services/kit"
)

// Order is what a user bought. Its lines, total and note never change.
type Order struct {
	ID, UserID string
	Lines      []Line
	Total      Money
	State      State
	Note       string
	// Revision counts the order's states, from 1.
	Revision int64
	// Created and Updated are to the microsecond, in UTC.
	Created, Updated time.Time
}

// Line is one article of an order.
type Line struct {
	SKU, Title string
	Quantity   int32
	// Price is that of one.
	Price Money
}

// Place returns a new order, in its first state. Lines that cannot be summed are
// INVALID_ARGUMENT, naming the line as the path `order.lines[i].price`.
func Place(id, userID, note string, lines []Line, now time.Time) (Order, error) {
	total, err := sum(lines)
	if err != nil {
		return Order{}, err
	}
	return Order{
		ID: id, UserID: userID, Lines: lines, Total: total, State: Placed, Note: note,
		Revision: 1, Created: now, Updated: now,
	}, nil
}

func sum(lines []Line) (Money, error) {
	if len(lines) == 0 {
		return Money{}, kit.InvalidField("order.lines", "required", "an order needs a line")
	}
	total := Money{Currency: lines[0].Price.Currency}
	for i, l := range lines {
		cost, err := l.Price.Times(l.Quantity)
		if err == nil {
			total, err = total.Plus(cost)
		}
		if err != nil {
			return Money{}, kit.InvalidField(fmt.Sprintf("order.lines[%d].price", i), "price", "%s", err)
		}
	}
	return total, nil
}

// Etag returns the version of o.
func (o Order) Etag() string { return kit.Etag(o.Revision, o.Created) }

// checkEtag is ABORTED unless etag is empty or that of o.
func (o Order) checkEtag(etag string) error {
	if etag != "" && etag != o.Etag() {
		return kit.StaleEtag("the order")
	}
	return nil
}

// Cancel returns the state of o once cancelled. A cancelled order stays as it is,
// whatever the etag: a cancellation whose answer was lost can be sent again.
func (o Order) Cancel(etag string) (State, error) {
	if o.State == Cancelled {
		return Cancelled, nil
	}
	if err := o.checkEtag(etag); err != nil {
		return 0, err
	}
	if o.State != Placed && o.State != Paid {
		return 0, kit.IllegalState("orders/"+o.ID, "order %q is %s and can no longer be cancelled", o.ID, o.State)
	}
	return Cancelled, nil
}

// Advance returns the state of o once moved to the state to, which must be the
// one that follows.
func (o Order) Advance(to State, etag string) (State, error) {
	if err := o.checkEtag(etag); err != nil {
		return 0, err
	}
	if next, ok := o.State.next(); !ok || to != next {
		return 0, kit.IllegalState("orders/"+o.ID, "order %q is %s and cannot become %s", o.ID, o.State, to)
	}
	return to, nil
}
