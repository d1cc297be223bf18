// Package admin is the operators' listener: health, readiness, metrics,
// profiles, the routes as the gateway resolved them and what is used of quotas.
// It has no authentication, so it belongs on an address that only operators
// reach; the default is loopback.
package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/pprof"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
)

// Route is one way to call a method, for operators to read.
type Route struct {
	// Verb and Template are of the REST route; empty for a method that only gRPC
	// offers. Of a route to a plain HTTP service: its methods (`*` for any), and hosts and
	// path as docs/http.md writes them.
	Verb     string `json:"verb,omitempty"`
	Template string `json:"template,omitempty"`
	// Method is the RPC: package.Service/Method; http/ and the name of a plain HTTP route.
	Method string `json:"method"`
	// Require says who may call.
	Require string `json:"require"`
	// Owner says whose the request must be; empty means anyone's.
	Owner string `json:"owner,omitempty"`
	// Tenant is the request field that names the tenant; empty means that none
	// does.
	Tenant string `json:"tenant,omitempty"`
	// Conditions must hold beside.
	Conditions []Condition `json:"conditions,omitempty"`
	// Passes says in words what passes beside the messages, and whether the service's
	// UNAUTHENTICATED does; empty where nothing does.
	Passes string `json:"passes,omitempty"`
	// LimitClass and LimitCost are how calls are counted; no class means that
	// they are not.
	LimitClass string `json:"limitClass,omitempty"`
	LimitCost  int    `json:"limitCost,omitempty"`
	// Limit says in words what the class allows.
	Limit string `json:"limit,omitempty"`
	// Deadline is a Go duration such as 2s; for a stream, its maximum age.
	Deadline string `json:"deadline,omitempty"`
	// Target is where the service runs; the upstream's name of a plain HTTP route.
	Target string `json:"target"`
}

// Condition is a CEL expression that must hold for a call.
type Condition struct {
	ID         string `json:"id"`
	Expression string `json:"expression"`
}

// Options make the handler.
type Options struct {
	// Ready is asked by every /readyz: nil means ready, an error (several are
	// joined by errors.Join) why not. It must be quick. A nil func is always
	// ready.
	Ready func() error
	// Metrics answers /metrics; nil leaves it out.
	Metrics http.Handler
	// Routes are listed by /routes; nil leaves it out.
	Routes func() []Route
	// Usage returns the max quotas that are used most, those first, for /limits;
	// nil leaves it out. It must be safe for concurrent use.
	Usage func(ctx context.Context, max int) ([]QuotaUsage, error)
	// Config says which configuration is in use, for /config; nil leaves it out.
	Config func() ConfigStatus
	// State is shown by /state and the page in the browser; nil leaves both out. It
	// must be safe for concurrent use.
	State func() State
	// Actions are what operators may do.
	Actions Actions
	// Addr is host:port as configured. Where the host is a loopback address or
	// localhost, the Host of a request must be, too.
	Addr string
}

// page is one thing that the listener offers.
type page struct {
	path, about string
	handler     http.Handler
}

const healthPath, readyPath = "/healthz", "/readyz"

// New makes the handler of the admin listener.
func New(o Options) http.Handler {
	pages := []page{
		{healthPath, "200 while the process lives", http.HandlerFunc(healthz)},
		{readyPath, "200 while the gateway takes calls; 503 with the reasons", readyz(o.Ready)},
	}
	if o.Metrics != nil {
		pages = append(pages, page{"/metrics", "Prometheus metrics", o.Metrics})
	}
	if o.Routes != nil {
		pages = append(pages, page{"/routes", "every route with its rule, as JSON; ?format=text for a table", routes(o.Routes)})
	}
	if o.Usage != nil {
		pages = append(pages, page{"/limits", "what is used of quotas, as JSON, the most used first; ?max=100", limits(o.Usage)})
	}
	if o.Config != nil {
		pages = append(pages, page{"/config", "the configuration in use, its digest and how the last reload ended, as JSON; without secrets", configuration(o.Config)})
	}
	if o.State != nil {
		pages = append(pages, page{"/state", "configuration, services, breakers, backends, the last errors, as JSON", state(o.State, o.Usage)},
			page{"/ui/", "the same as a page for browsers", console()})
	}
	pages = append(pages,
		page{"/debug/pprof/", "profiles of the process", http.HandlerFunc(pprof.Index)},
		page{"/debug/pprof/cmdline", "its command line", http.HandlerFunc(pprof.Cmdline)},
		page{"/debug/pprof/profile", "its CPU for ?seconds=30", http.HandlerFunc(pprof.Profile)},
		page{"/debug/pprof/symbol", "names of program counters", http.HandlerFunc(pprof.Symbol)},
		page{"/debug/pprof/trace", "its execution for ?seconds=1", http.HandlerFunc(pprof.Trace)},
	)
	mux := http.NewServeMux()
	for _, p := range pages {
		mux.Handle(p.path, readOnly(p.handler))
	}
	for _, a := range o.Actions.all() {
		mux.Handle(a.path, fresh(a))
		pages = append(pages, page{path: a.method + " " + a.path, about: a.about})
	}
	list := index(pages)
	if o.State != nil {
		list = front(list)
	}
	mux.Handle("/{$}", readOnly(list))
	mux.Handle("/", readOnly(http.NotFoundHandler()))
	return guard(o.Addr, mux)
}

// fresh keeps browsers from guessing types and from keeping answers.
func fresh(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// readOnly refuses all but GET and HEAD.
func readOnly(next http.Handler) http.Handler {
	return fresh(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, r)
	}))
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // A client that left needs no answer.
}

func healthz(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok\n") }

func readyz(ready func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if ready != nil {
			if err := ready(); err != nil {
				plain(w, http.StatusServiceUnavailable, "not ready\n"+err.Error()+"\n")
				return
			}
		}
		plain(w, http.StatusOK, "ready\n")
	})
}

func index(pages []page) http.Handler {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, p := range pages {
		_, _ = fmt.Fprintf(t, "%s\t%s\n", p.path, p.about) // Into memory.
	}
	_ = t.Flush()
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, b.String()) })
}

// parameter reads a query parameter; ok is false where it has answered that the query
// cannot be parsed, or has the parameter twice.
func parameter(w http.ResponseWriter, r *http.Request, name string) (value string, ok bool) {
	all, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case err != nil:
		plain(w, http.StatusBadRequest, "the query is not valid: "+err.Error()+"\n")
		return "", false
	case len(all[name]) > 1:
		plain(w, http.StatusBadRequest, name+" is given more than once\n")
		return "", false
	}
	return all.Get(name), true
}

func routes(list func() []Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		format, ok := parameter(w, r, "format")
		if !ok {
			return
		}
		var b strings.Builder
		switch format {
		case "", "json":
			_ = WriteRoutesJSON(&b, list()) // Into memory.
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, b.String()) // A client that left needs no answer.
		case "text":
			_ = WriteRoutesText(&b, list())
			plain(w, http.StatusOK, b.String())
		default:
			plain(w, http.StatusBadRequest, "format is json or text\n")
		}
	})
}

// WriteRoutesJSON writes routes as /routes does.
func WriteRoutesJSON(w io.Writer, all []Route) error {
	if all == nil {
		all = []Route{}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string][]Route{"routes": all})
}

// WriteRoutesText writes routes as /routes?format=text does: a table, and below
// it what the classes of limits allow and the conditions say, where that is known.
func WriteRoutesText(w io.Writer, all []Route) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "VERB\tTEMPLATE\tMETHOD\tREQUIRE\tOWNER\tTENANT\tCONDITIONS\tLIMIT\tDEADLINE\tTARGET") // Into memory.
	for _, r := range all {
		limit := ""
		if r.LimitClass != "" {
			limit = fmt.Sprintf("%s*%d", r.LimitClass, r.LimitCost)
		}
		var conditions []string
		for _, c := range r.Conditions {
			conditions = append(conditions, c.ID)
		}
		row := []string{r.Verb, r.Template, r.Method, r.Require, r.Owner, r.Tenant, strings.Join(conditions, " "), limit, r.Deadline, r.Target}
		for i, cell := range row {
			if cell == "" {
				row[i] = "-"
			}
		}
		_, _ = fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush()
	notes(&b, all)
	_, err := io.WriteString(w, b.String())
	return err
}

// notes are what does not fit into a row.
func notes(b *strings.Builder, all []Route) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	limits, seen := map[string]string{}, map[string]bool{}
	for _, r := range all {
		if r.Limit != "" {
			limits[r.LimitClass] = r.Limit
		}
	}
	for i, class := range slices.Sorted(maps.Keys(limits)) {
		if i == 0 {
			_, _ = fmt.Fprintln(t, "\nLIMIT\tALLOWS")
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\n", class, limits[class])
	}
	_ = t.Flush()
	passes := map[string]bool{}
	for _, r := range all {
		if r.Passes == "" || passes[r.Method] {
			continue
		}
		if len(passes) == 0 {
			_, _ = fmt.Fprintln(t, "\nMETHOD\tPASSES")
		}
		passes[r.Method] = true
		_, _ = fmt.Fprintf(t, "%s\t%s\n", r.Method, r.Passes)
	}
	_ = t.Flush()
	for _, r := range all {
		for _, c := range r.Conditions {
			if key := r.Method + " " + c.ID; !seen[key] {
				if len(seen) == 0 {
					_, _ = fmt.Fprintln(t, "\nMETHOD\tCONDITION\tEXPRESSION")
				}
				seen[key] = true
				_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", r.Method, c.ID, strings.Join(strings.Fields(c.Expression), " "))
			}
		}
	}
	_ = t.Flush()
}
