package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Actions are what operators may do while all runs. Each may be nil: it is not
// offered then. Errors are shown to the operator.
type Actions struct {
	// SetLogLevel sets the least level that is written: debug, info, warn or error.
	SetLogLevel func(level string) error
	// ForceBreaker holds a breaker closed or open, or with `auto` lets it go.
	ForceBreaker func(service, variant, class, state string) error
	// PurgeCache takes answers out of the response cache: all, those of a method, or
	// those with a tag. It says how many where that is known, else -1.
	PurgeCache func(method, tag string) (int, error)
	// Reload reads the configuration again, and uses it when it is good.
	Reload func() error
}

// maxAction bounds the body of an action, in bytes.
const maxAction = 4 << 10

// action is a page that changes something: PUT or POST with a JSON object.
type action struct {
	path, method, about string
	do                  func(body []byte) (any, error)
}

func (a Actions) all() []action {
	var out []action
	if a.SetLogLevel != nil {
		out = append(out, action{"/log/level", http.MethodPut, `set the log's level: {"level": "debug"}`, into(func(in struct{ Level string }) (any, error) {
			return map[string]string{"level": in.Level}, a.SetLogLevel(in.Level)
		})})
	}
	if a.ForceBreaker != nil {
		out = append(out, action{"/breakers", http.MethodPut, `hold a breaker: {"service": "…", "variant": "", "class": "read", "state": "open|closed|auto"}`,
			into(func(in struct{ Service, Variant, Class, State string }) (any, error) {
				return in, a.ForceBreaker(in.Service, in.Variant, in.Class, in.State)
			})})
	}
	if a.PurgeCache != nil {
		out = append(out, action{"/cache/purge", http.MethodPost, `forget kept answers: {} for all, or {"method": "…"} or {"tag": "…"}`,
			into(func(in struct{ Method, Tag string }) (any, error) {
				n, err := a.PurgeCache(in.Method, in.Tag)
				return map[string]int{"purged": n}, err
			})})
	}
	if a.Reload != nil {
		out = append(out, action{"/config/reload", http.MethodPost, "read the configuration again: {}", into(func(struct{}) (any, error) {
			return map[string]string{"config": "reloaded"}, a.Reload()
		})})
	}
	return out
}

// into reads the object an action is given; what it does not know is an error.
func into[T any](do func(T) (any, error)) func([]byte) (any, error) {
	return func(body []byte) (any, error) {
		var in T
		d := json.NewDecoder(strings.NewReader(string(body)))
		d.DisallowUnknownFields()
		if err := d.Decode(&in); err != nil {
			return nil, fmt.Errorf("the body must be a JSON object: %w", err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return nil, errors.New("the body must be one JSON object, and nothing after it")
		}
		return do(in)
	}
}

// numeric says whether an origin is an address or localhost. A page of another name
// that resolves here is, to the browser, of the same origin.
func numeric(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	_, err = netip.ParseAddr(u.Hostname())
	return err == nil || strings.EqualFold(u.Hostname(), "localhost")
}

// ServeHTTP does it. That the body says it is JSON keeps the forms of other pages
// out: without CORS, which is never granted here, no other page can send that.
func (a action) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != a.method {
		w.Header().Set("Allow", a.method)
		plain(w, http.StatusMethodNotAllowed, a.path+" takes "+a.method+": "+a.about+"\n")
		return
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		plain(w, http.StatusUnsupportedMediaType, "send application/json\n")
		return
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		plain(w, http.StatusForbidden, "the admin listener is changed by no other page\n")
		return
	}
	if origin := r.Header.Get("Origin"); origin != "" && !numeric(origin) {
		plain(w, http.StatusForbidden, "pages that change something are opened by address: a name may be anyone's, for a while (DNS rebinding)\n")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAction))
	if err != nil {
		plain(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("at most %d bytes\n", maxAction))
		return
	}
	out, err := a.do(body)
	if err != nil {
		plain(w, http.StatusBadRequest, err.Error()+"\n")
		return
	}
	writeJSON(w, http.StatusOK, out)
}
