package payments

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/services/kit"
)

// maxBody bounds a request, in bytes.
const maxBody = 16 << 10

// HealthPath is where the service says whether it serves: for health checks of gateways.
const HealthPath = "/healthz"

// ping is how often a stream says that it lives.
const ping = 15 * time.Second

func (s *Service) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+HealthPath, s.health)
	mux.Handle("GET /v1/payments/{user_id}", s.caller(s.get))
	mux.Handle("POST /v1/payments/{user_id}", s.caller(s.post))
	mux.Handle("GET /v1/payments/{user_id}/events", s.caller(s.events))
	return mux
}

// ServeHTTP serves one request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Service) health(w http.ResponseWriter, r *http.Request) {
	select {
	case <-s.drained:
		http.Error(w, "draining", http.StatusServiceUnavailable)
		return
	default:
	}
	if err := s.Check(r.Context()); err != nil {
		http.Error(w, "the database cannot be reached", http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

// caller lets in whom the gateway's assertion names, and nobody but the owner.
func (s *Service) caller(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens := r.Header.Values(kit.AssertionKey)
		if len(tokens) != 1 {
			problem(w, http.StatusUnauthorized, "no assertion, or several: call through the gateway")
			return
		}
		c, err := s.verifier.Verify(tokens[0], Name)
		if err != nil {
			problem(w, http.StatusUnauthorized, err.Error())
			return
		}
		if !c.Owns(r.PathValue("user_id")) { // The gateway has checked it; this holds for another way in.
			problem(w, http.StatusForbidden, "the caller may only act on what is its own")
			return
		}
		next(w, r.WithContext(kit.WithCaller(r.Context(), c)))
	})
}

func (s *Service) get(w http.ResponseWriter, r *http.Request) {
	list, err := s.list(r.Context(), r.PathValue("user_id"))
	if err != nil {
		s.failed(w, r, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"payments": list})
}

func (s *Service) post(w http.ResponseWriter, r *http.Request) {
	var p Payment
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		problem(w, http.StatusBadRequest, `the body is no payment, such as {"orderId":"ada-0002","currency":"EUR","cents":"1999"}`)
		return
	}
	if err := p.check(); err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	p.PaymentID, p.UserID, p.CreateTime = strings.ToLower(rand.Text()), r.PathValue("user_id"), time.Now().UTC().Truncate(time.Microsecond)
	switch err := s.add(r.Context(), p); {
	case errors.Is(err, errPaid):
		problem(w, http.StatusConflict, errPaid.Error())
	case err != nil:
		s.failed(w, r, err)
	default:
		answer(w, http.StatusCreated, p)
	}
}

// events streams the payments of a user as server-sent events: those there are, the
// oldest first, then each that comes.
func (s *Service) events(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	seen := map[string]bool{}
	beat := time.NewTicker(ping)
	defer beat.Stop()
	for {
		changed := s.next() // Before the list: none is missed.
		list, err := s.list(r.Context(), r.PathValue("user_id"))
		if err != nil {
			s.log.WarnContext(r.Context(), "payments could not be listed", "error", err)
			return
		}
		for i := len(list) - 1; i >= 0; i-- {
			if p := list[i]; !seen[p.PaymentID] {
				seen[p.PaymentID] = true
				b, err := json.Marshal(p)
				if err != nil {
					return
				}
				if _, err := fmt.Fprintf(w, "id: %s\nevent: payment\ndata: %s\n\n", p.PaymentID, b); err != nil {
					return
				}
			}
		}
		if rc.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-beat.C:
			if _, err := fmt.Fprint(w, ": ping\n\n"); err != nil {
				return
			}
		case <-s.drained:
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (s *Service) failed(w http.ResponseWriter, r *http.Request, err error) {
	s.log.ErrorContext(r.Context(), "payments failed", "error", err)
	problem(w, http.StatusServiceUnavailable, "the service cannot reach its database")
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // The caller went away.
}

func problem(w http.ResponseWriter, code int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": http.StatusText(code), "status": code, "detail": detail})
}
