package kit

import "time"

// SetClock gives a verifier another clock.
func SetClock(v *Verifier, now func() time.Time) { v.now = now }
