package admin

import (
	"embed"
	"net/http"
	"strings"
)

//go:embed ui
var ui embed.FS

// policyOfPage lets the page load its own files, and nothing else.
const policyOfPage = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// console serves the page and its files.
func console() http.Handler {
	types := map[string]string{"/ui/": "text/html; charset=utf-8", "/ui/app.js": "text/javascript; charset=utf-8", "/ui/style.css": "text/css; charset=utf-8"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, ok := types[r.URL.Path]
		if !ok {
			plain(w, http.StatusNotFound, "there is nothing here\n")
			return
		}
		name := strings.TrimPrefix(r.URL.Path, "/")
		if name == "ui/" {
			name = "ui/index.html"
		}
		b, err := ui.ReadFile(name)
		if err != nil {
			plain(w, http.StatusInternalServerError, err.Error()+"\n")
			return
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Security-Policy", policyOfPage)
		w.Header().Set("Referrer-Policy", "no-referrer")
		_, _ = w.Write(b) // A client that left needs no answer.
	})
}

// front shows a browser the page, and everyone else the list.
func front(list http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept"), "text/html") {
			http.Redirect(w, r, "/ui/", http.StatusFound)
			return
		}
		list.ServeHTTP(w, r)
	})
}
