package auth

import "time"

// SetNow gives a signer and a development key the clock of a test.
func (s *Signer) SetNow(now func() time.Time) { s.now = now }
func (d *DevKey) SetNow(now func() time.Time) { d.now = now }
