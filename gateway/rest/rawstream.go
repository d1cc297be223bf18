package rest

import (
	"errors"
	"io"

	"golang.org/x/net/http/httpguts"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// rawStream is a stream of google.api.HttpBody, for a generated handler. The runtime
// would write a line feed behind every message, and a failure as more data, so the
// first RecvMsg forwards the whole stream itself; to the handler the stream then has no
// messages. RecvMsg runs on the goroutine of the request.
type rawStream struct{ *handlerStream }

// RecvMsg implements grpc.ClientStream. m is only memory to parse into.
func (s rawStream) RecvMsg(m any) error {
	if err := s.forwardRaw(m.(proto.Message)); err != nil {
		s.x.FailOrBreak(err)
	}
	return io.EOF
}

// forwardRaw writes the data of every message, and nothing else. The first message's
// content type is the answer's: HTTP has one for all of it, and it has been sent when
// the next message comes, so that what later ones say of it does not count. Extensions
// have no form in HTTP.
func (s rawStream) forwardRaw(m proto.Message) error {
	x := s.x
	for {
		err := s.handlerStream.RecvMsg(m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		body := x.binding.rawBody(m)
		if x.Status() == 0 {
			x.Header()["Content-Type"] = contentTypeOf(body)
			if x.binding.location != nil {
				x.locate(m)
			}
		}
		if err = x.write(body.GetData()); err == nil {
			err = x.FlushError()
		}
		if err != nil { // Or it reads too slowly. Its connection ends broken.
			return status.Error(codes.Canceled, "the caller went away")
		}
	}
}

// rawBody is the google.api.HttpBody of an answer: the message, or its field
// responseBody.
func (b *Binding) rawBody(m proto.Message) *httpbody.HttpBody {
	if b.ResponseField != nil {
		in := m.ProtoReflect()
		m = in.Get(in.Descriptor().Fields().ByName(b.ResponseField.Name())).Message().Interface()
	}
	body, _ := m.(*httpbody.HttpBody)
	return body
}

// contentTypeOf is the header of a body. One that no header may hold is as good as none:
// net/http would send another in its place.
func contentTypeOf(b *httpbody.HttpBody) []string {
	if t := b.GetContentType(); t != "" && httpguts.ValidHeaderFieldValue(t) {
		return []string{t}
	}
	return octets
}
