package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// State is how the gateway is right now, for operators to read: /state, and the
// page in the browser.
type State struct {
	// Version is the program's, Started when the process began, Now when this was
	// asked.
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Now     time.Time `json:"now"`
	// NotReady says why /readyz says no; empty means ready.
	NotReady string `json:"notReady,omitempty"`
	// LogLevel is the least level that is written.
	LogLevel string `json:"logLevel"`
	// Config is the configuration in use.
	Config ConfigState `json:"config"`
	// Services are those that are called, each variant for itself.
	Services []ServiceState `json:"services"`
	// Cache is the response cache; nil where it is off.
	Cache *CacheState `json:"cache,omitempty"`
	// Errors are the last failures, the latest first.
	Errors []RecentError `json:"errors"`
	// Quotas are those used most, as /limits has them; nil without quotas.
	Quotas []QuotaUsage `json:"quotas,omitempty"`
}

// ConfigState says which configuration is in use, and how the last change went.
type ConfigState struct {
	// Source is a path or an etcd key; empty means defaults alone.
	Source string `json:"source"`
	// Digest is a SHA-256 of it, in hexadecimal, shortened.
	Digest string `json:"digest"`
	// Loaded is when it came into use.
	Loaded time.Time `json:"loaded"`
	// Reloads counts those that came into use after the first.
	Reloads int `json:"reloads"`
	// LastError is why the last change was refused; empty means that none was since.
	LastError   string    `json:"lastError,omitempty"`
	LastErrorAt time.Time `json:"lastErrorAt,omitzero"`
	// NeedsRestart are the keys whose change waits for a restart.
	NeedsRestart []string `json:"needsRestart,omitempty"`
}

// ServiceState is a service, or a canary of one.
type ServiceState struct {
	// Name is the service's full name, or that of a plain HTTP upstream.
	Name string `json:"name"`
	// Variant is the canary's name; empty means the service itself.
	Variant string `json:"variant,omitempty"`
	// Target is where it runs.
	Target string `json:"target"`
	// Breakers are one for each class of limits.
	Breakers []BreakerState `json:"breakers"`
	// InFlight are calls under way, Limit how many may be; 0 means no bound.
	InFlight int `json:"inFlight"`
	Limit    int `json:"limit"`
	// Backends are those behind the target, where it is not in this process.
	Backends []BackendState `json:"backends"`
}

// BreakerState is a circuit breaker.
type BreakerState struct {
	Class string `json:"class"`
	// State is closed, open or half_open; Forced says that an operator holds it there.
	State  string    `json:"state"`
	Forced bool      `json:"forced"`
	Since  time.Time `json:"since"`
	// Requests and Failures are those of its window.
	Requests int `json:"requests"`
	Failures int `json:"failures"`
}

// BackendState is one backend of a service.
type BackendState struct {
	Addr      string `json:"addr"`
	Weight    int    `json:"weight"`
	State     string `json:"state"`
	InFlight  int64  `json:"inFlight"`
	Ejections uint64 `json:"ejections"`
	LastError string `json:"lastError,omitempty"`
}

// CacheState is the response cache.
type CacheState struct {
	Entries  int   `json:"entries"`
	Bytes    int64 `json:"bytes"`
	MaxBytes int64 `json:"maxBytes"`
}

// RecentError is a request that the gateway or a service failed.
type RecentError struct {
	Time      time.Time `json:"time"`
	RequestID string    `json:"requestId"`
	// Route is the template or the RPC, never the raw path.
	Route    string `json:"route"`
	Code     string `json:"code"`
	Upstream string `json:"upstream,omitempty"`
	Variant  string `json:"variant,omitempty"`
	Why      string `json:"why,omitempty"`
}

// shownQuotas is how many quotas the page shows.
const shownQuotas = 20

func state(of func() State, usage func(ctx context.Context, max int) ([]QuotaUsage, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := of()
		if usage != nil {
			s.Quotas, _ = usage(r.Context(), shownQuotas) // What is wrong with it, /limits says.
		}
		if s.Services == nil {
			s.Services = []ServiceState{}
		}
		if s.Errors == nil {
			s.Errors = []RecentError{}
		}
		writeJSON(w, http.StatusOK, s)
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // A client that left needs no answer.
}
