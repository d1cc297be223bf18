package kit

import "time"

// SetClock gives a verifier another clock.
func SetClock(v *Verifier, now func() time.Time) { v.now = now }

// NewValidate returns the step that validates, alone.
func NewValidate() (func(any) error, error) {
	c, err := newChain(InterceptorOptions{Verifier: &Verifier{}})
	if err != nil {
		return nil, err
	}
	return c.validate, nil
}
