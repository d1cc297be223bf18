package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
)

// defaultUsage is how many quotas /limits lists where nothing else is asked, and
// maxUsage how many at most.
const (
	defaultUsage = 100
	maxUsage     = 10_000
)

// QuotaUsage is what was used of one quota in the present day or month.
type QuotaUsage struct {
	// Limit is the quota's name in answers, errors and metrics, such as
	// `batch-api_key-day`.
	Limit string `json:"limit"`
	// Who is whom it counts: a subject, the id of an API key, a tenant; empty for
	// a quota that counts everyone together.
	Who string `json:"who"`
	// Period is `day` or `month`, of the calendar in UTC.
	Period string `json:"period"`
	// Used and Size are in tokens: a call takes its cost.
	Used int64 `json:"used"`
	Size int64 `json:"size"`
}

// limits lists the quotas that are used most.
func limits(usage func(ctx context.Context, max int) ([]QuotaUsage, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		most := defaultUsage
		text, ok := parameter(w, r, "max")
		if !ok {
			return
		}
		if text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > maxUsage {
				plain(w, http.StatusBadRequest, "max is a number from 1 to "+strconv.Itoa(maxUsage)+"\n")
				return
			}
			most = n
		}
		quotas, err := usage(r.Context(), most)
		if err != nil { // Operators may know what is inside.
			plain(w, http.StatusInternalServerError, err.Error()+"\n")
			return
		}
		if quotas == nil {
			quotas = []QuotaUsage{}
		}
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		_ = enc.Encode(map[string][]QuotaUsage{"quotas": quotas}) // A client that left needs no answer.
	})
}
