package domain_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/services/order/domain"
)

// TestMoves is the whole state machine: every move from every state.
func TestMoves(t *testing.T) {
	states := []domain.State{domain.Placed, domain.Paid, domain.Shipped, domain.Delivered, domain.Cancelled}
	follows := map[domain.State]domain.State{domain.Placed: domain.Paid, domain.Paid: domain.Shipped, domain.Shipped: domain.Delivered}
	cancellable := map[domain.State]bool{domain.Placed: true, domain.Paid: true, domain.Cancelled: true}
	for _, from := range states {
		o := domain.Order{ID: "o", State: from, Revision: 1, Created: time.Unix(1, 0)}
		for _, to := range append(states, 0, 6, -1) {
			got, err := o.Advance(to, "")
			if next, ok := follows[from]; ok && next == to {
				if err != nil || got != to {
					t.Errorf("%s -> %s = %s, %v", from, to, got, err)
				}
			} else if status.Code(err) != codes.FailedPrecondition {
				t.Errorf("%s -> %s: %v, want FAILED_PRECONDITION", from, to, err)
			}
			if _, err := o.Advance(to, "stale"); status.Code(err) != codes.Aborted {
				t.Errorf("%s -> %s with a stale etag: %v, want ABORTED", from, to, err)
			}
		}
		got, err := o.Cancel(o.Etag())
		if cancellable[from] && (err != nil || got != domain.Cancelled) || !cancellable[from] && status.Code(err) != codes.FailedPrecondition {
			t.Errorf("cancel from %s = %s, %v", from, got, err)
		}
		_, err = o.Cancel("stale")
		if want := map[bool]codes.Code{true: codes.OK, false: codes.Aborted}[from == domain.Cancelled]; status.Code(err) != want {
			t.Errorf("cancel from %s with a stale etag: %v, want %s", from, err, want)
		}
		if from.Final() != (from == domain.Delivered || from == domain.Cancelled) {
			t.Errorf("%s is final: %v", from, from.Final())
		}
	}
}
