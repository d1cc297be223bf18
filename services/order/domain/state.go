package domain

// State is where an order stands. The numbers are stored, and are those of the
// contract's OrderState.
type State int32

// placed -> paid -> shipped -> delivered; from the first two also -> cancelled.
const (
	Placed    State = 1
	Paid      State = 2
	Shipped   State = 3
	Delivered State = 4
	Cancelled State = 5
)

// Final reports whether nothing follows s.
func (s State) Final() bool { return s == Delivered || s == Cancelled }

// next returns the state that follows s on an order's way.
func (s State) next() (State, bool) {
	if s >= Placed && s < Delivered {
		return s + 1, true
	}
	return 0, false
}

func (s State) String() string {
	switch s {
	case Placed:
		return "placed"
	case Paid:
		return "paid"
	case Shipped:
		return "shipped"
	case Delivered:
		return "delivered"
	case Cancelled:
		return "cancelled"
	}
	return "unknown"
}
