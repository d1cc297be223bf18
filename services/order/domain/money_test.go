package domain_test

import (
	"errors"
	"math"
	"math/big"
	"testing"

	"github.com/sluice-gateway/sluice/services/order/domain"
)

func eur(units int64, nanos int32) domain.Money {
	return domain.Money{Currency: "EUR", Units: units, Nanos: nanos}
}

func TestMoney(t *testing.T) {
	type result struct {
		m   domain.Money
		err error
	}
	do := func(m domain.Money, err error) result { return result{m, err} }
	for _, tt := range []struct {
		name string
		got  result
		want domain.Money
		err  error
	}{
		{"times nothing", do(eur(3, 5).Times(0)), eur(0, 0), nil},
		{"times with carry", do(eur(1, 990_000_000).Times(3)), eur(5, 970_000_000), nil},
		{"times the most", do(eur(0, 999_999_999).Times(10_000)), eur(9999, 999_990_000), nil},
		{"times to the limit", do(eur(math.MaxInt64, 999_999_999).Times(1)), eur(math.MaxInt64, 999_999_999), nil},
		{"times beyond", do(eur(math.MaxInt64/2+1, 0).Times(2)), domain.Money{}, domain.ErrTooLarge},
		{"times beyond 64 bits", do(eur(math.MaxInt64, 0).Times(math.MaxInt32)), domain.Money{}, domain.ErrTooLarge},
		{"times beyond by the carry", do(eur(math.MaxInt64/2, 999_999_999).Times(3)), domain.Money{}, domain.ErrTooLarge},
		{"times less than nothing", do(eur(1, 0).Times(-1)), domain.Money{}, domain.ErrAmount},
		{"negative", do(eur(-1, 0).Times(1)), domain.Money{}, domain.ErrAmount},
		{"too many nanos", do(eur(0, 1_000_000_000).Times(1)), domain.Money{}, domain.ErrAmount},
		{"plus with carry", do(eur(1, 600_000_000).Plus(eur(2, 400_000_000))), eur(4, 0), nil},
		{"plus to the limit", do(eur(math.MaxInt64-1, 1).Plus(eur(1, 2))), eur(math.MaxInt64, 3), nil},
		{"plus beyond", do(eur(math.MaxInt64, 0).Plus(eur(1, 0))), domain.Money{}, domain.ErrTooLarge},
		{"plus beyond by the carry", do(eur(math.MaxInt64, 500_000_000).Plus(eur(0, 500_000_000))), domain.Money{}, domain.ErrTooLarge},
		{"plus another currency", do(eur(1, 0).Plus(domain.Money{Currency: "USD"})), domain.Money{}, domain.ErrCurrencies},
		{"plus negative", do(eur(1, 0).Plus(eur(0, -1))), domain.Money{}, domain.ErrAmount},
	} {
		if tt.got.m != tt.want || !errors.Is(tt.got.err, tt.err) {
			t.Errorf("%s = %v, %v, want %v, %v", tt.name, tt.got.m, tt.got.err, tt.want, tt.err)
		}
	}
}

// inNanos is the amount as an unbounded number.
func inNanos(m domain.Money) *big.Int {
	n := new(big.Int).Mul(big.NewInt(m.Units), big.NewInt(1_000_000_000))
	return n.Add(n, big.NewInt(int64(m.Nanos)))
}

// FuzzMoney holds the arithmetic against unbounded numbers.
func FuzzMoney(f *testing.F) {
	f.Add(int64(1), int32(990_000_000), int64(2), int32(10_000_000), int32(3))
	f.Add(int64(math.MaxInt64), int32(999_999_999), int64(0), int32(1), int32(1))
	f.Add(int64(math.MaxInt64/10_000), int32(999_999_999), int64(math.MaxInt64), int32(0), int32(10_000))
	f.Add(int64(-1), int32(-1), int64(1), int32(1_000_000_000), int32(-1))
	most := new(big.Int).Add(inNanos(eur(math.MaxInt64, 0)), big.NewInt(999_999_999))
	f.Fuzz(func(t *testing.T, u1 int64, n1 int32, u2 int64, n2 int32, times int32) {
		a, b := eur(u1, n1), eur(u2, n2)
		good := func(m domain.Money) bool { return m.Units >= 0 && m.Nanos >= 0 && m.Nanos < 1_000_000_000 }
		check := func(name string, got domain.Money, err error, valid bool, want *big.Int) {
			switch {
			case !valid:
				if !errors.Is(err, domain.ErrAmount) {
					t.Fatalf("%s of %v, %v, %d = %v, %v, want ErrAmount", name, a, b, times, got, err)
				}
			case want.Cmp(most) > 0:
				if !errors.Is(err, domain.ErrTooLarge) {
					t.Fatalf("%s of %v, %v, %d = %v, %v, want ErrTooLarge", name, a, b, times, got, err)
				}
			case err != nil || !good(got) || got.Currency != "EUR" || inNanos(got).Cmp(want) != 0:
				t.Fatalf("%s of %v, %v, %d = %v, %v, want %s nanos", name, a, b, times, got, err, want)
			}
		}
		product, err := a.Times(times)
		check("product", product, err, good(a) && times >= 0, new(big.Int).Mul(inNanos(a), big.NewInt(int64(times))))
		sum, err := a.Plus(b)
		check("sum", sum, err, good(a) && good(b), new(big.Int).Add(inNanos(a), inNanos(b)))
	})
}
