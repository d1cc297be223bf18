package gateway

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/status"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/route"
)

// ExplainRequest is a request to explain: over REST, or over gRPC when RPC is
// set.
type ExplainRequest struct {
	// Method and Target are of the REST request, such as GET and
	// /v1/users/ada?x=1, as the request line has them.
	Method, Target string
	// RPC is of the gRPC call: package.Service/Method.
	RPC string
	// Data is the body, or the JSON form of the gRPC request message.
	Data string
	// Header is of the request, or the metadata of the call.
	Header []Header
	// From is where the connection comes from; the zero Addr means 127.0.0.1.
	From netip.Addr

	// Token and APIKey are credentials, verified as always.
	Token, APIKey string
	// Assume stands in for authentication; nil means that it runs. It excludes
	// the credentials.
	Assume *policy.Principal
	// Demo accepts tokens of the development key, too.
	Demo bool
}

// Header is one line of a header.
type Header struct{ Name, Value string }

// Explanation says what would happen to a request, and why.
type Explanation struct {
	Request string `json:"request"`
	From    string `json:"from"`
	// Route is the REST route that matched; nil means none, or gRPC.
	Route *ExplainedRoute `json:"route,omitempty"`
	// Call is the call; nil when the request did not get so far.
	Call *ExplainedCall `json:"call,omitempty"`
	// Answer is what the caller gets.
	Answer ExplainedAnswer `json:"answer"`
	// Log is what the gateway warned of.
	Log []string `json:"log,omitempty"`
}

// ExplainedRoute is the route that a request matched.
type ExplainedRoute struct {
	Verb     string            `json:"verb"`
	Template string            `json:"template"`
	Params   map[string]string `json:"params,omitempty"`
}

// ExplainedCall is a call of a method, or a branch that a composite makes.
type ExplainedCall struct {
	Method string `json:"method"`
	// Rule is what holds for the method, with the limits in words.
	Rule admin.Route `json:"rule"`
	// Principal is who calls, as the chain knows it in the end.
	Principal ExplainedPrincipal `json:"principal"`
	// Client is the caller's address, for limits.
	Client string `json:"client"`
	// Steps are the checks that ran, in order; the last may have refused.
	Steps []ExplainedStep `json:"steps"`
	// Upstream is what would be sent; nil means nothing.
	Upstream *ExplainedUpstream `json:"upstream,omitempty"`
	// Branches of a composite, by name; its services answered with empty messages.
	Branches []*ExplainedCall `json:"branches,omitempty"`
}

// ExplainedPrincipal is who calls.
type ExplainedPrincipal struct {
	Subject string   `json:"subject,omitempty"`
	Issuer  string   `json:"issuer,omitempty"`
	Tenant  string   `json:"tenant,omitempty"`
	APIKey  string   `json:"apiKey,omitempty"`
	Scopes  []string `json:"scopes,omitempty"`
	// Assumed says that nothing was verified.
	Assumed bool `json:"assumed,omitempty"`
}

// ExplainedStep is the outcome of one check.
type ExplainedStep struct {
	// Phase is arrival, edge, branch or entry; see chain.go.
	Phase string `json:"phase"`
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	// Code, Reason and Message are what the caller is told.
	Code    string `json:"code,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Why is for operators alone.
	Why string `json:"why,omitempty"`
}

// ExplainedUpstream is what would be sent to a service.
type ExplainedUpstream struct {
	Target string `json:"target"`
	Method string `json:"method"`
	// Messages of the request, as JSON; more than one only of a client's stream.
	Messages []string `json:"messages"`
	// Deadline is the most the call may take, as a Go duration; of a stream, its
	// greatest age.
	Deadline string `json:"deadline"`
}

// ExplainedAnswer is how the caller is answered.
type ExplainedAnswer struct {
	// Status is such as `403 Forbidden`, or the name of a gRPC code.
	Status string `json:"status"`
	// Refused says that the gateway refuses. Else Status is a success's, and
	// whether it is one is the service's to say.
	Refused bool `json:"refused"`
	// Header holds the lines that say something about the decision.
	Header []Header `json:"header,omitempty"`
	// Body of a refusal; over gRPC the message of the status.
	Body string `json:"body,omitempty"`
}

// explainTime bounds an explanation: fetching an issuer's keys is the only
// thing that waits.
const explainTime = 30 * time.Second

// Explain says what a gateway of this configuration would do with a request. It
// builds that gateway and gives it the request over a connection in memory, so
// that it cannot disagree with one that serves; but services are replaced by
// what notes the call and answers with an empty message, limits are fresh and in
// memory, and keys and counts are in a directory of its own, removed afterwards.
func Explain(ctx context.Context, cfg *configv1.Config, req ExplainRequest, opts ...Option) (*Explanation, error) {
	if req.Assume != nil && (req.Token != "" || req.APIKey != "") {
		return nil, errors.New("a caller is either assumed or has a credential")
	}
	ctx, cancel := context.WithTimeout(ctx, explainTime)
	defer cancel()
	if !req.From.IsValid() {
		req.From = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	r := &recorder{assumed: req.Assume}
	verify := req.Token != "" || req.APIKey != "" || len(req.Header) > 0
	out := &Explanation{From: req.From.String()}
	err := offline(cfg, r, offlineOptions{auth: verify, devKey: req.Demo}, opts, func(g *Gateway) (err error) {
		if req.RPC != "" {
			out.Request = "gRPC " + req.RPC
			out.Answer, err = g.callRPC(ctx, req)
		} else {
			out.Request = req.Method + " " + req.Target
			out.Answer, err = g.callREST(ctx, req)
		}
		if err != nil {
			return err
		}
		out.Call = r.result(g)
		out.Route, out.Log = r.matched(req), r.log
		if !out.Answer.Refused {
			out.Answer.Body = "" // Of an empty message, which no service has sent.
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// explained is a record as the caller of Explain reads it.
func (s *snapshot) explained(rec *recorded) *ExplainedCall {
	c, p := rec.call, rec.call.Principal
	out := &ExplainedCall{Steps: rec.steps, Upstream: rec.sent, Client: c.Client.String()}
	if p != nil {
		out.Principal = ExplainedPrincipal{Subject: p.Subject, Issuer: p.Issuer, Tenant: p.Tenant, APIKey: p.APIKey,
			Scopes: p.Scopes(), Assumed: p == s.o.explain.assumed}
	}
	if c.Method == nil {
		return out
	}
	out.Method = c.Method.FullName[1:]
	out.Rule = s.route("", "", c.Method)
	if p != nil && p.LimitClass != "" { // It stands in for the rule's.
		out.Rule.LimitClass, out.Rule.Limit = p.LimitClass, limitWords(s.cfg.GetLimits().GetClasses()[p.LimitClass])
	}
	return out
}

// matched is the route that the REST edge found, with the values of its
// variables, by the edge's own index.
func (r *recorder) matched(req ExplainRequest) *ExplainedRoute {
	if r.route == "" || req.RPC != "" {
		return nil
	}
	out := &ExplainedRoute{Verb: req.Method, Template: r.route}
	t, err := route.Parse(r.route)
	if err != nil { // A mount's path is no template.
		return out
	}
	rawPath, _, _ := strings.Cut(req.Target, "?")
	path, err := route.Normalize(rawPath)
	if err != nil {
		return out
	}
	var alone route.Index[struct{}]
	if alone.Add(req.Method, t, struct{}{}) != nil {
		return out
	}
	if _, params, ok := alone.Lookup(req.Method, path); ok {
		out.Params = params.Map()
	}
	return out
}

// codeName is a code as google.rpc.Code writes it, such as NOT_FOUND.
func codeName(st *status.Status) string { return code.Code(int32(st.Code())).String() } //nolint:gosec // 0 to 16
