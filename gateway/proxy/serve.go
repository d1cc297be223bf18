package proxy

import (
	"context"
	"net/http"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
)

// Hosted are the routes that name a host, which come before all other paths of the
// gateway; Others are the rest, which come behind them.
func (p *Proxy) Hosted() httpedge.Protocol { return edge{p, true} }

// Others is explained at Hosted.
func (p *Proxy) Others() httpedge.Protocol { return edge{p, false} }

// edge serves one of the two parts of a proxy's routes.
type edge struct {
	p      *Proxy
	hosted bool
}

// Serve implements httpedge.Protocol.
func (e edge) Serve(ctx context.Context, x *httpedge.Exchange, path string) bool {
	r := x.Request
	if r.Method == http.MethodOptions && e.servePreflight(x, path) {
		return true
	}
	q, ok := e.p.Match(r, r.Method, path, e.hosted)
	if !ok {
		allow := e.p.Allowed(r, path, e.hosted)
		if len(allow) > 0 {
			x.NotAllowed(allow)
		}
		return len(allow) > 0
	}
	x.Observed.Route = q.Name()
	x.Foreign()
	if err := q.admit(ctx, x); err != nil {
		x.FailOrBreak(err)
	}
	x.EndReads()
	return true
}

// servePreflight answers what a browser asks before a page of another origin may
// call: that has no credential, so no service could be asked.
func (e edge) servePreflight(x *httpedge.Exchange, path string) bool {
	asked, ok := x.Preflight()
	if !ok {
		return false
	}
	q, ok := e.p.Match(x.Request, asked, path, e.hosted)
	if !ok {
		return false
	}
	x.Observed.Route = q.Name()
	x.Options([]string{asked, http.MethodOptions})
	return true
}

// admit admits the request and passes it on. The error is a status.
func (q *Request) admit(ctx context.Context, x *httpedge.Exchange) error {
	upgrade := x.WebSocket() && q.WebSocket()
	if err := x.CrossSite(); err != nil {
		return err //nolint:wrapcheck // It is a status.
	}
	if upgrade {
		if err := x.CrossOriginWebSocket(); err != nil {
			return err //nolint:wrapcheck // It is a status.
		}
	}
	ctx, err := x.Admit(ctx, q.Method())
	if err != nil {
		return err //nolint:wrapcheck // It is a status.
	}
	body, err := x.PassBody(q.Method().Rule.MaxRequestBytes)
	if err != nil {
		return err //nolint:wrapcheck // It is a status.
	}
	if body != nil {
		var leave context.CancelCauseFunc
		ctx, leave = context.WithCancelCause(ctx)
		defer leave(nil)
		x.WatchDeparture(leave)
	}
	r := x.Request.WithContext(ctx)
	if upgrade {
		r.Header["Connection"], r.Header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	} else {
		delete(r.Header, "Upgrade")
	}
	if body != nil {
		r.Body = body
		defer body.End()
	}
	x.Roll()
	err = q.Serve(x, r, &x.Call)
	if body != nil {
		if cause := body.Failure(); cause != nil && err != nil { // What the service's end made of it explains less.
			err = cause
		}
	}
	return err
}
