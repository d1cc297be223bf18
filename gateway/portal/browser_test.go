package portal_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/portal/portaltest"
)

// shop answers the page's calls with what they carried.
func shop(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{
		"userId":        r.PathValue("user_id"),
		"authorization": r.Header.Get("Authorization"),
		"contentType":   r.Header.Get("Content-Type"),
		"body":          string(body),
	})
}

// The page lists the operations, and calls them with and without a token, in a
// browser that reaches nothing but this server.
func TestPageInBrowser(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/docs", newPortal(t))
	mux.Handle("/docs/", newPortal(t))
	mux.Handle("/openapi.json", newPortal(t))
	mux.HandleFunc("GET /v1/users/{user_id}/profile", shop)
	mux.HandleFunc("GET /v1/users/{user_id}", shop)
	mux.HandleFunc("POST /v1/users", shop)
	mux.HandleFunc("PUT /v1/users/{user_id}/profile/avatar", shop)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	picture := filepath.Join(t.TempDir(), "ada.png")
	if err := os.WriteFile(picture, []byte("picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		call portaltest.Call
		want map[string]string
	}{
		{
			"public, no token",
			portaltest.Call{Path: "/v1/users/{user_id}/profile", Params: map[string]string{"user_id": "ada"}},
			map[string]string{"userId": "ada", "authorization": "", "contentType": "", "body": ""},
		},
		{
			"guarded, with a token",
			portaltest.Call{Path: "/v1/users/{user_id}", Params: map[string]string{"user_id": "grace"}, Token: "a.b.c"},
			map[string]string{"userId": "grace", "authorization": "Bearer a.b.c", "contentType": "", "body": ""},
		},
		{
			"JSON body",
			portaltest.Call{Method: "POST", Path: "/v1/users", Body: `{"email":"linus@example.com"}`, Token: "a.b.c"},
			map[string]string{"userId": "", "authorization": "Bearer a.b.c", "contentType": "application/json", "body": `{"email":"linus@example.com"}`},
		},
		{
			"picture",
			portaltest.Call{Method: "PUT", Path: "/v1/users/{user_id}/profile/avatar", Params: map[string]string{"user_id": "ada"}, File: picture, Token: "a.b.c"},
			map[string]string{"userId": "ada", "authorization": "Bearer a.b.c", "contentType": "image/gif", "body": "picture"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := portaltest.Drive(t, server.URL, c.call)
			if !strings.Contains(got.Title, "Sluice shop API") || len(got.Operations) != 17 {
				t.Errorf("title %q, %d operations, want 17: %v", got.Title, len(got.Operations), got.Operations)
			}
			if got.Status != 200 || got.ContentType != "application/json" {
				t.Errorf("the page shows %d %s", got.Status, got.ContentType)
			}
			for _, text := range []string{got.Body, got.Shown} {
				var body map[string]string
				if err := json.Unmarshal([]byte(text), &body); err != nil || !maps.Equal(body, c.want) {
					t.Errorf("body %q, want %v", text, c.want)
				}
			}
			if len(got.Failed)+len(got.External)+len(got.Errors) > 0 {
				t.Errorf("failed %v, external %v, console %v", got.Failed, got.External, got.Errors)
			}
		})
	}
}
