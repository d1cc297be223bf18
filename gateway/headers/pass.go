package headers

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Bounds of what passes beside the messages of a call, in bytes of names and values.
// Answers have less room: several libraries take no more than 8 KiB of trailers, in
// which an error's details travel, too.
const (
	MaxRequestPassed  = 8 << 10
	MaxResponsePassed = 4 << 10
	maxPassNames      = 32
)

// replayed is passed for every method that takes an Idempotency-Key.
const replayed = "idempotency-replayed"

const binary = "-bin"

// Pass is what a rule lets pass beside the messages of its calls, compiled. It is
// immutable, and safe for concurrent use. A nil one lets nothing pass.
type Pass struct {
	request  []passed
	response map[string]bool
}

type passed struct {
	key    string // of metadata
	header policy.Header
	binary bool
}

// CompilePass checks what the method's rule lets pass; nil where that is nothing. Secret
// are request headers of the configuration that carry credentials. The error joins all
// that is wrong.
func CompilePass(m *policy.Method, secret ...string) (*Pass, error) {
	rule := &m.Rule
	p := &Pass{response: map[string]bool{}}
	var errs []error
	of := "rule of " + strings.TrimPrefix(m.FullName, "/") + ": metadata."
	request, err := passNames(of+"request", rule.Metadata.Request, func(name string) error { return notFromCallers(name, secret) })
	errs = append(errs, err)
	for _, name := range request {
		p.request = append(p.request, passed{name, policy.NewHeader(name), strings.HasSuffix(name, binary)})
	}
	response, err := passNames(of+"response", rule.Metadata.Response, func(name string) error { return notFromServices(name, rule.Cache != nil) })
	errs = append(errs, err)
	for _, name := range response {
		p.response[name] = true
	}
	if rule.IdempotencyKey != nil {
		p.response[replayed] = true
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(p.request)+len(p.response) == 0 {
		return nil, nil //nolint:nilnil // Nothing passes.
	}
	return p, nil
}

// passNames checks the names of a list, and returns them in lower case.
func passNames(list string, names []string, check func(string) error) (out []string, _ error) {
	var errs []error
	if len(names) > maxPassNames {
		errs = append(errs, fmt.Errorf("%s names %d headers, more than %d", list, len(names), maxPassNames))
	}
	for _, name := range names {
		lower := strings.ToLower(name)
		err := check(lower)
		switch {
		case strings.HasPrefix(name, ":"):
			err = errors.New("names that begin with a colon are HTTP's own")
		case !httpguts.ValidHeaderFieldName(name) || strings.ContainsAny(name, "!#$%&'*+^`|~"):
			err = errors.New("a metadata key has letters, digits and any of -_. only")
		case slices.Contains(out, lower):
			err = errors.New("it is there twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %q: %w", list, name, err))
			continue
		}
		out = append(out, lower)
	}
	return out, errors.Join(errs...)
}

// notFromCallers says why a caller's header must not reach a service.
func notFromCallers(name string, secret []string) error {
	switch {
	case reserved(name, Scope{GRPC: true}):
		return errors.New("HTTP, gRPC or the gateway need this header for themselves")
	case identifies(name), slices.ContainsFunc(secret, func(s string) bool { return strings.EqualFold(s, name) }):
		return errors.New("callers would choose who they are, or from where: services are told by the assertion")
	}
	return nil
}

// notFromServices says why a service's metadata must not reach callers.
func notFromServices(name string, cached bool) error {
	switch {
	case reserved(name, Scope{GRPC: true, Response: true}), steers(name):
		return errors.New("HTTP, gRPC or the gateway need this header for themselves")
	case cached && name == "set-cookie":
		return errors.New("answers of this method are cached, and a cookie is one caller's")
	}
	return nil
}

// Unsendable is a header of a caller that cannot be metadata.
type Unsendable struct{ Header, Reason string }

func (e *Unsendable) Error() string { return e.Header + ": " + e.Reason }

// Request yields the metadata that the caller's headers become, in the order of the
// rule. Values stay as they are and as many; those of binary keys are decoded over REST.
// What cannot be sent whole is refused: the error is an *Unsendable.
func (p *Pass) Request(call *policy.Call, yield func(key, value string)) error {
	if p == nil || call.Headers == nil {
		return nil
	}
	left := MaxRequestPassed
	for i := range p.request {
		h := &p.request[i]
		for _, value := range call.Headers(h.header.On(call.Edge)) {
			if left -= len(h.key) + len(value); left < 0 {
				return &Unsendable{h.header.On(policy.EdgeREST), fmt.Sprintf("headers for the service have more than %d bytes", MaxRequestPassed)}
			}
			if !h.binary {
				if !text(value) {
					return &Unsendable{h.header.On(policy.EdgeREST), "must be printable ASCII"}
				}
				yield(h.key, value)
				continue
			}
			if call.BytesDecoded {
				yield(h.key, value)
				continue
			}
			if err := decoded(value, func(b string) { yield(h.key, b) }); err != nil {
				return &Unsendable{h.header.On(policy.EdgeREST), "must be base64"}
			}
		}
	}
	return nil
}

// decoded yields the bytes of a binary header: base64, padded or not, and perhaps
// several joined by commas, as gRPC sends it.
func decoded(value string, yield func(string)) error {
	for part := range strings.SplitSeq(value, ",") {
		b, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(trimOWS(part), "="))
		if err != nil {
			return err //nolint:wrapcheck // The caller says what it means.
		}
		yield(string(b))
	}
	return nil
}

// Requests says whether headers of callers reach the service: answers differ by them.
func (p *Pass) Requests() bool { return p != nil && len(p.request) > 0 }

// Only gives of the headers of a call those that pass, and nothing of others.
func (p *Pass) Only(headers func(key string) []string) func(key string) []string {
	return func(key string) []string {
		if p == nil || headers == nil || !slices.ContainsFunc(p.request, func(h passed) bool { return strings.EqualFold(h.key, key) }) {
			return nil
		}
		return headers(key)
	}
}

// Names are those of the caller's headers that pass.
func (p *Pass) Names() (request, response []string) {
	if p == nil {
		return nil, nil
	}
	for i := range p.request {
		request = append(request, p.request[i].key)
	}
	for name := range p.response {
		response = append(response, name)
	}
	slices.Sort(response)
	return request, response
}

// Responds says whether metadata of the service reaches callers.
func (p *Pass) Responds() bool { return p != nil && len(p.response) > 0 }

// Response returns what of a service's header or trailer passes, and the names of what
// would and cannot: with a value that no header may hold, or beyond the bound. Such a
// name is left out with all its values, so that nobody gets a part. The result is new;
// it shares the values.
func (p *Pass) Response(md map[string][]string) (out map[string][]string, unsendable []string) {
	if !p.Responds() || len(md) == 0 {
		return nil, nil
	}
	names := make([]string, 0, len(p.response))
	for name := range p.response {
		if len(md[name]) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names) // So that the same ones are left out each time.
	left := MaxResponsePassed
	for _, name := range names {
		size, fit := 0, true
		for _, value := range md[name] {
			size += len(name) + len(value)
			fit = fit && (strings.HasSuffix(name, binary) || text(value))
		}
		if !fit || size > left {
			unsendable = append(unsendable, name)
			continue
		}
		left -= size
		if out == nil {
			out = make(map[string][]string, len(names))
		}
		out[name] = slices.Clip(md[name])
	}
	return out, unsendable
}

// text says whether a value is one of metadata (gRPC over HTTP/2: printable ASCII).
func text(value string) bool {
	for i := range len(value) {
		if value[i] < ' ' || value[i] > '~' {
			return false
		}
	}
	return true
}

// EncodeHTTP is the value of a service's metadata as a header of HTTP: bytes as base64,
// padded (RFC 4648, 4).
func EncodeHTTP(key, value string) string {
	if strings.HasSuffix(key, binary) {
		return base64.StdEncoding.EncodeToString([]byte(value))
	}
	return value
}
