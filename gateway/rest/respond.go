package rest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"reflect"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// maxDepth bounds the nesting of JSON bodies: parsing nested Any is quadratic.
const maxDepth = 64

// muxOptions set up the runtime that generated handlers run in. Nothing of a
// request's headers becomes metadata here: upstream builds that anew.
func (s *Server) muxOptions() []runtime.ServeMuxOption {
	none := func(string) (string, bool) { return "", false }
	return []runtime.ServeMuxOption{
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newMarshaler()),
		runtime.WithErrorHandler(handleError),
		runtime.WithStreamErrorHandler(handleStreamError),
		runtime.WithForwardResponseOption(succeed),
		runtime.WithIncomingHeaderMatcher(none),
		runtime.WithOutgoingTrailerMatcher(none),
		runtime.WithOutgoingHeaderMatcher(func(key string) (string, bool) {
			return textproto.CanonicalMIMEHeaderKey(key), s.o.ResponseMetadata(key)
		}),
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
	if l := x.binding.location; l != nil {
		x.Header().Set("Location", l.of(m))
	}
	return nil
}

// handleError is where every error of a generated handler arrives.
func handleError(ctx context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, _ http.ResponseWriter, _ *http.Request, err error) {
	x := exchangeOf(ctx)
	if x == nil {
		return
	}
	if !x.sent { // The handler could not build the request, and flattened why.
		err = x.explain()
	}
	if cause := endedBy(ctx); cause != nil { // What was wrong with a streamed body.
		err = cause
	}
	if md, ok := runtime.ServerMetadataFromContext(ctx); ok {
		x.forwardMetadata(md.HeaderMD)
	}
	x.fail(err)
}

func (x *exchange) forwardMetadata(md metadata.MD) {
	for k, vs := range md {
		if x.server.o.ResponseMetadata(k) {
			x.Header()[textproto.CanonicalMIMEHeaderKey(k)] = vs
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
	x.err = err
	whole := x.status == 0
	if whole {
		p := newProblem(st, x.observed.ID)
		x.forced = p.Status
		x.annotateFailure(p)
	}
	note := &errdetails.RequestInfo{RequestId: x.observed.ID}
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
}

func newMarshaler() *marshaler {
	return &marshaler{runtime.JSONPb{
		// Unset messages absent, unset scalars, lists and maps present: what the
		// API document says.
		MarshalOptions:   protojson.MarshalOptions{EmitDefaultValues: true},
		UnmarshalOptions: protojson.UnmarshalOptions{RecursionLimit: maxDepth},
	}}
}

// ContentType is the media type of a whole answer.
func (m *marshaler) ContentType(v any) string {
	switch v := v.(type) {
	case *httpbody.HttpBody:
		return v.GetContentType()
	case map[string]proto.Message:
		return problemType
	}
	return "application/json"
}

// StreamContentType is the media type of a stream: lines of JSON, or whatever
// a stream of google.api.HttpBody says.
func (m *marshaler) StreamContentType(v any) string {
	if h, ok := v.(*httpbody.HttpBody); ok {
		return h.GetContentType()
	}
	return "application/x-ndjson"
}

// Marshal renders responses, stream chunks and the errors of streams.
func (m *marshaler) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
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
	p := newProblem(status.FromProto(st), id)
	if whole {
		return p.json()
	}
	b, err := p.json()
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

// NewDecoder reads request bodies.
func (m *marshaler) NewDecoder(r io.Reader) runtime.Decoder {
	if s, ok := r.(*streamBody); ok {
		dec := m.JSONPb.NewDecoder(s)
		return runtime.DecoderFunc(func(v any) error {
			s.left = s.max
			if err := dec.Decode(v); err != nil {
				return s.failed(err)
			}
			return nil
		})
	}
	return runtime.DecoderFunc(func(v any) error { return m.decode(r, v) })
}

func (m *marshaler) decode(r io.Reader, v any) error {
	if raw, ok := r.(*rawBody); ok {
		if p, ok := v.(**httpbody.HttpBody); ok {
			*p = &httpbody.HttpBody{ContentType: raw.contentType, Data: raw.data}
			return nil
		}
	}
	data, err := bytesOf(r)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return io.EOF
	}
	if p := message(v); p != nil {
		return m.UnmarshalOptions.Unmarshal(data, p)
	}
	return m.JSONPb.Unmarshal(data, v)
}

func bytesOf(r io.Reader) ([]byte, error) {
	if b, ok := r.(*jsonBody); ok {
		return b.data, nil
	}
	return io.ReadAll(r)
}

// message returns the message v points at, making it where v is a pointer to a
// pointer, as handlers of a body field pass it.
func message(v any) proto.Message {
	if m, ok := v.(proto.Message); ok {
		return m
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.Elem().Kind() != reflect.Pointer {
		return nil
	}
	fresh := reflect.New(rv.Elem().Type().Elem())
	m, ok := fresh.Interface().(proto.Message)
	if ok {
		rv.Elem().Set(fresh)
	}
	return m
}
