package rest

import (
	"context"
	"fmt"
	"net/http"
	"net/textproto"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/httpedge"
)

// maxDepth bounds the nesting of JSON bodies: parsing nested Any is quadratic.
const maxDepth = 64

// muxOptions set up the runtime that generated handlers run in. Nothing of a
// request's headers becomes metadata here: upstream builds that anew.
func (s *Server) muxOptions() []runtime.ServeMuxOption {
	none := func(string) (string, bool) { return "", false }
	return []runtime.ServeMuxOption{
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newMarshaler(s.inputs)),
		runtime.WithErrorHandler(handleError),
		runtime.WithStreamErrorHandler(handleStreamError),
		runtime.WithForwardResponseOption(succeed),
		runtime.WithForwardResponseRewriter(rewrite),
		runtime.WithIncomingHeaderMatcher(none),
		runtime.WithOutgoingTrailerMatcher(none), // conn does that.
		runtime.WithOutgoingHeaderMatcher(none),
		runtime.WithDisableChunkedEncoding(), // net/http chunks by itself.
	}
}

// succeed runs before the response is marshaled, so it only notes the status;
// the exchange sends it with the first byte. For streams m is nil.
func succeed(ctx context.Context, _ http.ResponseWriter, m proto.Message) error {
	x := exchangeOf(ctx)
	if x == nil || x.binding == nil || m == nil {
		return nil
	}
	if !x.binding.Method.Streaming() {
		x.success = x.binding.Method.Rule.SuccessCode
	}
	if x.binding.location != nil {
		x.locate(m)
	}
	return nil
}

// handleError is where every error of a generated handler arrives.
func handleError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, _ http.ResponseWriter, _ *http.Request, err error) {
	x := exchangeOf(ctx)
	if x == nil || x.served {
		return
	}
	if !x.sent { // The handler could not build the request, and flattened why.
		err = x.explain()
	}
	if cause := endedBy(ctx); cause != nil { // What was wrong with a streamed body.
		err = cause
	}
	x.Fail(err)
}

// addMetadata makes headers of what upstream lets pass of a service's metadata.
func (x *exchange) addMetadata(md metadata.MD) {
	for key, values := range md {
		name := textproto.CanonicalMIMEHeaderKey(key)
		for _, v := range values {
			x.Header()[name] = append(x.Header()[name], headers.EncodeHTTP(key, v))
		}
	}
}

// handleStreamError turns the failure of a stream into what the marshaler will
// be handed: the problem rides along as a detail, with a note on whether it is
// the whole answer or the last line of a stream.
func handleStreamError(ctx context.Context, err error) *status.Status {
	st := status.Convert(err)
	x := exchangeOf(ctx)
	if x == nil {
		return st
	}
	x.Failed(err)
	whole := x.Status() == 0
	if whole {
		p := httpedge.NewProblem(st, x.Observed.ID)
		x.forced = p.Status
		x.AnnotateFailure(p)
	}
	note := &errdetails.RequestInfo{RequestId: x.Observed.ID}
	if whole {
		note.ServingData = wholeAnswer
	}
	noted, derr := st.WithDetails(note)
	if derr != nil {
		return st
	}
	return noted
}

const wholeAnswer = "whole"

// marshaler is the JSON of the house over the runtime's Marshaler.
type marshaler struct {
	runtime.JSONPb
	inputs inputs
}

func newMarshaler(in inputs) *marshaler {
	return &marshaler{inputs: in, JSONPb: runtime.JSONPb{
		// Unset messages absent, unset scalars, lists and maps present: what the
		// API document says.
		MarshalOptions:   protojson.MarshalOptions{EmitDefaultValues: true},
		UnmarshalOptions: protojson.UnmarshalOptions{RecursionLimit: maxDepth},
	}}
}

// ContentType is the media type of a whole answer. Where a route's response_body names
// a field, v wraps the message.
func (m *marshaler) ContentType(v any) string {
	if field, ok := v.(interface{ XXX_ResponseBody() any }); ok {
		v = field.XXX_ResponseBody()
	}
	switch v := v.(type) {
	case *httpbody.HttpBody:
		return contentTypeOf(v)[0]
	case map[string]proto.Message:
		return httpedge.ProblemType
	}
	return "application/json"
}

// StreamContentType is the media type of a stream: lines of JSON. Those of
// google.api.HttpBody do not come here, see rawstream.go.
func (m *marshaler) StreamContentType(any) string { return "application/x-ndjson" }

// Marshal renders responses, stream chunks and the errors of streams.
func (m *marshaler) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case unparsed:
		return v.x.render("", "")
	case map[string]any: // A part of a stream.
		if u, ok := v["result"].(unparsed); ok {
			return u.x.render(`{"result":`, "}")
		}
	case *httpbody.HttpBody:
		return v.GetData(), nil
	case map[string]proto.Message:
		return marshalStreamError(v["error"])
	}
	return m.JSONPb.Marshal(v)
}

func marshalStreamError(m proto.Message) ([]byte, error) {
	st, ok := m.(*spb.Status)
	if !ok {
		return nil, fmt.Errorf("rest: stream error of type %T", m)
	}
	id, whole := takeNote(st)
	p := httpedge.NewProblem(status.FromProto(st), id)
	if whole {
		return p.JSON()
	}
	b, err := p.JSON()
	return append(append([]byte(`{"error":`), b...), '}'), err
}

// takeNote removes what handleStreamError added.
func takeNote(st *spb.Status) (requestID string, whole bool) {
	n := len(st.GetDetails())
	if n == 0 {
		return "", false
	}
	var note errdetails.RequestInfo
	if st.GetDetails()[n-1].UnmarshalTo(&note) != nil {
		return "", false
	}
	st.Details = st.GetDetails()[:n-1]
	return note.GetRequestId(), note.GetServingData() == wholeAnswer
}
