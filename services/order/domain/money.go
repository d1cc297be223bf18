package domain

import (
	"errors"
	"math"
	"math/bits"
)

const nanosPerUnit = 1_000_000_000

// Money is an amount that is not negative: Units and Nanos billionths of a unit,
// of which there are fewer than one unit's. The arithmetic is exact and fails
// rather than overflow.
type Money struct {
	// Currency is three capital letters (ISO 4217).
	Currency string
	Units    int64
	Nanos    int32
}

// Why money cannot be reckoned with.
var (
	ErrTooLarge   = errors.New("the amount is too large")
	ErrCurrencies = errors.New("the currencies differ")
	ErrAmount     = errors.New("the amount is negative or has a billion nanos")
)

func (m Money) check() error {
	if m.Units < 0 || m.Nanos < 0 || m.Nanos >= nanosPerUnit {
		return ErrAmount
	}
	return nil
}

// Times returns n times m; n must not be negative.
func (m Money) Times(n int32) (Money, error) {
	if err := m.check(); err != nil {
		return Money{}, err
	}
	if n < 0 {
		return Money{}, ErrAmount
	}
	nanos := int64(m.Nanos) * int64(n) // Below 2^30 * 2^31.
	hi, units := bits.Mul64(uint64(m.Units), uint64(n))
	if hi != 0 || units > math.MaxInt64 {
		return Money{}, ErrTooLarge
	}
	return m.with(int64(units), nanos)
}

// Plus returns the sum of m and o, which must have one currency.
func (m Money) Plus(o Money) (Money, error) {
	if err := errors.Join(m.check(), o.check()); err != nil {
		return Money{}, ErrAmount
	}
	if m.Currency != o.Currency {
		return Money{}, ErrCurrencies
	}
	if m.Units > math.MaxInt64-o.Units {
		return Money{}, ErrTooLarge
	}
	return m.with(m.Units+o.Units, int64(m.Nanos)+int64(o.Nanos))
}

// with returns units and nanos in m's currency, whole units carried over.
func (m Money) with(units, nanos int64) (Money, error) {
	carry := nanos / nanosPerUnit
	if units > math.MaxInt64-carry {
		return Money{}, ErrTooLarge
	}
	return Money{Currency: m.Currency, Units: units + carry, Nanos: int32(nanos % nanosPerUnit)}, nil //nolint:gosec // below a billion
}
