package admin

import (
	"encoding/json"
	"net/http"
	"time"
)

// ConfigStatus says which configuration a gateway uses. There are no secrets in it.
type ConfigStatus struct {
	// Digest tells configurations apart, but for their secrets.
	Digest string `json:"digest"`
	// Source is where it was read from; empty means that it is not read again.
	Source string `json:"source,omitempty"`
	// LoadedAt is when the gateway began to use it.
	LoadedAt time.Time `json:"loadedAt"`
	// LastReload is how the last reload ended; nil means that there was none.
	LastReload *ConfigReload `json:"lastReload,omitempty"`
	// NeedsRestart names the keys that the configuration changes, and that keep
	// their values until the next start.
	NeedsRestart []string `json:"needsRestart,omitempty"`
	// Config is the configuration with every default filled in, as JSON, with *** in
	// place of secrets.
	Config json.RawMessage `json:"config"`
}

// ConfigReload is how a reload ended.
type ConfigReload struct {
	At time.Time `json:"at"`
	// Outcome is applied, unchanged, invalid or failed.
	Outcome string `json:"outcome"`
	// Error is why the configuration before stays in use.
	Error string `json:"error,omitempty"`
}

func configuration(status func() ConfigStatus) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		_ = enc.Encode(status()) // A client that left needs no answer.
	})
}
