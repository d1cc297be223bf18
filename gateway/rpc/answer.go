package rpc

import (
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-gateway/sluice/gateway/frames"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Limits are the bounds of this edge, as Options.Refused names them. What
// grpc-go refuses by itself, before any of our code runs, is not among them:
// docs/decisions/0011-listeners.md lists it.
var Limits = [...]string{limitMessageBytes, limitSlowMessage, limitSlowReader, limitMethodName, limitHealthWatches, limitReflections,
	frames.LimitFrames, frames.LimitUnfinished}

const (
	limitMessageBytes = "message_bytes" // larger than its method takes, or than any does
	limitSlowMessage  = "slow_message"  // the first message did not come
	limitSlowReader   = "slow_reader"   // the answer was not taken
	limitMethodName   = "method_name"   // no /service/method

	limitHealthWatches = "health_watches"      // of one address, or at all
	limitReflections   = "reflection_messages" // on one stream
)

// refusal is an error with the facts that the REST edge's has (problem+json).
func refusal(code codes.Code, reason, msg string) error {
	st := status.New(code, msg)
	with, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: policy.ErrorDomain})
	if err != nil { // Only an invalid code can fail here.
		return st.Err()
	}
	return with.Err()
}

func errNoSuchMethod() error {
	return refusal(codes.Unimplemented, "NO_SUCH_METHOD", "no such method")
}

// fits bounds a message by its method's rule.
func (s *Server) fits(m *policy.Method, n int) error {
	if int64(n) > m.Rule.MaxRequestBytes+envelope {
		s.o.Refused(limitMessageBytes)
		return refusal(codes.ResourceExhausted, "BODY_TOO_LARGE",
			"the body is larger than the "+strconv.FormatInt(m.Rule.MaxRequestBytes, 10)+" bytes this call takes")
	}
	return nil
}

// maxAnnotation bounds the value of an annotation, in bytes.
const maxAnnotation = 1024

// annotate adds a header to the answer. One invalid pair would make grpc-go
// drop them all, or the caller's library the answer: it is left out.
func (x *exchange) annotate(key, value string) {
	key = strings.ToLower(key)
	if !validKey(key) || len(value) > maxAnnotation || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return
	}
	if have := x.header[key]; have != nil {
		x.header[key] = append(have, value)
		return
	}
	x.header[key] = x.value(value)
}

// validKey says whether a key may be annotated: names of gRPC itself and of
// HTTP/2 are not ours, and binary ones have other values.
func validKey(key string) bool {
	if key == "" || strings.HasPrefix(key, "grpc-") || strings.HasSuffix(key, "-bin") {
		return false
	}
	switch key {
	case "content-type", "te", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "content-length":
		return false
	}
	return !strings.ContainsFunc(key, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	})
}

// add adds to the header what upstream lets pass of a service's.
func (x *exchange) add(from metadata.MD) {
	for k, v := range from {
		have := x.header[k]
		x.header[k] = append(have[:len(have):len(have)], v...) // v may be a cached response's.
	}
}

// addTrailer gives grpc-go what upstream lets pass of a service's trailer.
func (x *exchange) addTrailer(from metadata.MD) {
	if len(from) > 0 {
		_ = grpc.SetTrailer(x, from) // It keeps a copy. A call that has ended has no trailer any more.
	}
}

// open gives grpc-go the header so far. It is called before the first message
// is read: when that fails, grpc-go answers by itself, and takes no more headers
// then.
func (x *exchange) open() {
	if x.opened {
		return
	}
	x.opened = true
	x.flush()
}

// flush is best effort: a call that has ended has no header any more.
func (x *exchange) flush() {
	if len(x.header) == 0 {
		return
	}
	_ = grpc.SetHeader(x, x.header) // It keeps a copy.
	clear(x.header)
}

// close gives grpc-go the rest of the header. A refusal that says when to come
// back goes out as trailers alone: only then may a caller's library try again
// by itself, and with grpc-retry-pushback-ms it does so in time (gRFC A6).
func (x *exchange) close(err error) {
	if err != nil && !x.opened {
		if wait, ok := retryAfter(err); ok {
			x.header["grpc-retry-pushback-ms"] = []string{pushback(wait)}
			_ = grpc.SetTrailer(x, x.header)
			clear(x.header)
			return
		}
	}
	x.flush()
}

// longestPushback is how long a caller's library is asked to wait by itself:
// beyond that its program should hear of it.
const longestPushback = 10 * time.Second

// pushback says in milliseconds when to try again; -1 means not by itself.
func pushback(wait time.Duration) string {
	if wait < 0 || wait > longestPushback {
		return "-1"
	}
	return strconv.FormatInt((wait + time.Millisecond - 1).Milliseconds(), 10)
}

// retryAfter reads the RetryInfo of an error.
func retryAfter(err error) (time.Duration, bool) {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration(), true
		}
	}
	return 0, false
}
