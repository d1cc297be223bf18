package httpedge

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// ProblemType is the media type of a Problem.
const ProblemType = "application/problem+json"

// Problem is the answer to a request that failed (RFC 9457), with the members
// this API adds.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Code is the name of the gRPC code, such as NOT_FOUND.
	Code      string `json:"code"`
	RequestID string `json:"request_id,omitempty"`
	// Details are the google.rpc details of the status, by their @type.
	Details []json.RawMessage `json:"details,omitempty"`
	// Errors name the fields that are wrong.
	Errors []FieldError `json:"errors,omitempty"`

	retryAfter time.Duration
	reason     string
}

// FieldError says what is wrong with a field of the request.
type FieldError struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

// codeNames are the names as google.rpc.Code writes them.
var codeNames = [...]string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL",
	"UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}

// httpStatus maps gRPC codes as google.rpc.Code documents them.
var httpStatus = [...]int{200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401}

// NewProblem is the answer to a request that failed with a status.
func NewProblem(st *status.Status, requestID string) *Problem {
	code := int(st.Code())
	if code <= 0 || code >= len(codeNames) {
		code = int(codes.Unknown)
	}
	p := &Problem{Type: "about:blank", Status: httpStatus[code], Detail: st.Message(), Code: codeNames[code], RequestID: requestID}
	for _, d := range st.Details() {
		p.add(d)
	}
	p.Title = title(p.Status)
	return p
}

// add renders a detail: field violations as errors, what the edge itself
// decides as the status, the rest as it is.
func (p *Problem) add(detail any) {
	switch d := detail.(type) {
	case *errdetails.BadRequest:
		for _, v := range d.GetFieldViolations() {
			p.Errors = append(p.Errors, FieldError{Field: v.GetField(), Reason: v.GetDescription()})
		}
		return
	case *errdetails.RetryInfo:
		p.retryAfter = d.GetRetryDelay().AsDuration()
	case *errdetails.ErrorInfo:
		if d.GetDomain() == policy.ErrorDomain {
			p.reason = d.GetReason()
			if s, err := strconv.Atoi(d.GetMetadata()[metaStatus]); err == nil && s >= 400 && s < 500 {
				p.Status = s
				detail = &errdetails.ErrorInfo{Reason: d.GetReason(), Domain: d.GetDomain()} // The status line says it already.
			}
			if d.GetReason() == ReasonBadResponse {
				p.Status = http.StatusBadGateway
			}
		}
	}
	m, ok := detail.(proto.Message)
	if !ok {
		return
	}
	a, err := anypb.New(m)
	if err != nil {
		return
	}
	if b, err := protojson.Marshal(a); err == nil {
		p.Details = append(p.Details, compact(b))
	}
}

// ReasonBadResponse is upstream.ReasonBadResponse, which this package does not
// import.
const ReasonBadResponse = "BAD_UPSTREAM_RESPONSE"

// metaStatus names the HTTP status of an error that the edge itself makes.
const metaStatus = "http_status"

// compact takes out the spaces that protojson puts in at random.
func compact(b []byte) json.RawMessage {
	var v any
	if json.Unmarshal(b, &v) != nil {
		return b
	}
	out, err := json.Marshal(v)
	if err != nil {
		return b
	}
	return out
}

func title(code int) string {
	if code == 499 {
		return "Client Closed Request"
	}
	return http.StatusText(code)
}

// JSON is the body of the answer.
func (p *Problem) JSON() ([]byte, error) { return json.Marshal(p) }

// refusal is an error of one of the edge's own bounds, with the bound's name.
type refusal struct {
	error
	limit string
}

// Refuse makes a refusal by the bound of that name, which is told to Options.Refused.
func Refuse(limit string, err error) error { return &refusal{err, limit} }

// GRPCStatus is the status to answer with.
func (r *refusal) GRPCStatus() *status.Status { return status.Convert(r.error) }

func (r *refusal) Unwrap() error { return r.error }

// Fail answers with an error, a status, once.
func (x *Exchange) Fail(err error) {
	x.err = err
	var r *refusal
	if errors.As(err, &r) {
		x.Refused(r.limit)
	}
	x.problem(status.Convert(err))
}

// Refused tells of a bound that has refused something, where Fail is not told of it. It
// is safe for concurrent use.
func (x *Exchange) Refused(limit string) { x.server.o.Refused(limit) }

func (x *Exchange) problem(st *status.Status) {
	if x.status != 0 {
		return
	}
	p := NewProblem(st, x.Observed.ID)
	x.AnnotateFailure(p)
	b, err := p.JSON()
	if err != nil {
		b = []byte(`{"type":"about:blank","title":"Internal Server Error","status":500,"code":"INTERNAL"}`)
	}
	h := x.Header()
	h.Del("Location")
	h.Set("Content-Type", ProblemType)
	h.Set("Content-Length", strconv.Itoa(len(b)))
	x.WriteHeader(p.Status)
	if _, err := x.Write(b); err != nil {
		x.server.o.Logger.Debug("answer not written", "error", err)
	}
}

// AnnotateFailure adds the headers that HTTP asks for beside a status.
func (x *Exchange) AnnotateFailure(p *Problem) {
	h := x.Header()
	h["Cache-Control"] = noStore
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", challenge(p.reason))
	case http.StatusForbidden:
		if p.reason == "SCOPE_MISSING" && x.Call.Method != nil {
			h.Set("WWW-Authenticate", `Bearer realm="sluice", error="insufficient_scope", scope="`+scopesOf(&x.Call.Method.Rule)+`"`)
		}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		seconds := int64((p.retryAfter + time.Second - 1) / time.Second) // Never too soon.
		h.Set("Retry-After", strconv.FormatInt(max(1, seconds), 10))
	case http.StatusUnsupportedMediaType:
		if p.reason == reasonEncoding { // RFC 7694
			h["Accept-Encoding"] = []string{"gzip"}
		}
	}
}

// scopesOf are the scopes that a token may lack: all of the first, and one of
// the alternatives.
func scopesOf(r *policy.Rule) string {
	return strings.Join(append(slices.Clone(r.Scopes), r.AnyScopes...), " ")
}

// challenge is the WWW-Authenticate of a 401 (RFC 6750). Only of a token may it
// say that the token is invalid.
func challenge(reason string) string {
	switch reason {
	case "TOKEN_EXPIRED", "TOKEN_INVALID", "CREDENTIAL_MALFORMED":
		return `Bearer realm="sluice", error="invalid_token"`
	}
	return `Bearer realm="sluice"`
}
