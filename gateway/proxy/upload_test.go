package proxy

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/gateway/resilience"
)

// TestSlowUploads: who sends slowly takes no place from others for longer than uploadHold,
// and no probe of a breaker; the time that a body takes is not the service's. Time is
// simulated.
func TestSlowUploads(t *testing.T) {
	for name, tc := range map[string]struct {
		slow time.Duration // until the whole body is there
		held bool          // 3 s into it
	}{
		"a quick one": {held: true},
		"a slow one":  {slow: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := resilience.NewService(resilience.Options{})
				if err != nil {
					t.Fatal(err)
				}
				permit, err := s.Class("write").Acquire(resilience.Whole)
				if err != nil {
					t.Fatal(err)
				}
				r, w := io.Pipe()
				u := &upload{ReadCloser: r, w: &watch{}}
				done := u.hold(permit)
				go func() {
					_, _ = io.WriteString(w, "body")
					time.Sleep(tc.slow)
					_ = w.Close()
				}()
				go func() { _, _ = io.Copy(io.Discard, u) }()
				time.Sleep(time.Second)
				synctest.Wait()
				if n := s.States()[0].InFlight; tc.slow > 0 && n != 0 {
					t.Errorf("%d in flight while the caller sends", n)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if held := s.States()[0].InFlight == 1; held != tc.held {
					t.Errorf("held: %v", held)
				}
				time.Sleep(time.Hour)
				done(resilience.Success)
				done(resilience.Failure) // Once is enough.
				if got := s.States()[0]; got.InFlight != 0 || got.Failures != 0 {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// TestUploadsToADeadBackend: where the backend is what is waited for, a request with a
// body that is not whole yet fails as one without: callers who send much must not keep a
// breaker closed. Time is simulated.
func TestUploadsToADeadBackend(t *testing.T) {
	for name, reads := range map[string]int{"that is not reached": 0, "that stops reading": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := resilience.NewService(resilience.Options{})
				if err != nil {
					t.Fatal(err)
				}
				permit, err := s.Class("write").Acquire(resilience.Whole)
				if err != nil {
					t.Fatal(err)
				}
				u := &upload{ReadCloser: io.NopCloser(strings.NewReader("much more")), w: &watch{}}
				done := u.hold(permit)
				for range reads {
					if _, err := u.Read(make([]byte, 4)); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(9 * time.Second)
				synctest.Wait()
				done(resilience.Failure) // Its word counts: nobody has said that the caller was slow.
				if got := s.States()[0]; got.InFlight != 0 || got.Failures != 1 {
					t.Errorf("%+v", got)
				}
				time.Sleep(time.Hour) // No timer is left behind.
			})
		})
	}
}
