package rest

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/transcode"
)

// Partial answers: the system parameter `fields` or `$fields`, or the header
// X-Goog-FieldMask, names the fields that a GET shall answer with
// (https://cloud.google.com/apis/docs/system-parameters). As there, an empty one
// asks for all.
const (
	fieldsParam  = "fields"
	fieldsSystem = "$fields"
	fieldsHeader = "X-Goog-FieldMask"
	// fieldsKey is the header as net/http keeps it.
	fieldsKey = "X-Goog-Fieldmask"
)

// maxMaskBytes bounds the text of a mask.
const maxMaskBytes = 2 << 10

// fieldMasks reads the masks that callers of one binding ask for. A nil one
// knows no masks. It is safe for concurrent use.
type fieldMasks struct {
	// compile is that of the answer's plan; nil where the answer is a
	// google.api.HttpBody, which has no fields.
	compile func(paths string) (*transcode.Mask, error)
	// own says that the request message has a field named `fields`, which keeps
	// the parameter.
	own   bool
	known maskCache
}

// newFieldMasks is for a binding whose plans are compiled; nil unless it is a GET.
func newFieldMasks(b *Binding) *fieldMasks {
	if b.Verb != http.MethodGet {
		return nil
	}
	f := &fieldMasks{own: fieldByName(b.Method.Descriptor.Input(), fieldsParam) != nil}
	if b.answer != nil {
		f.compile = b.answer.Mask
	}
	return f
}

// take returns the mask that a request asks for with its text, nil for the whole
// answer. It takes the parameters out of the query, so that nobody looks for a field
// of the request by their names. Its error is an answer: 400.
func (f *fieldMasks) take(h http.Header, query url.Values) (*transcode.Mask, string, error) {
	if f == nil {
		return nil, "", nil
	}
	name, text, times := f.asked(h, query)
	switch {
	case times == 0:
		return nil, "", nil
	case times > 1:
		return nil, "", httpedge.BadField(name, "is given more than once: one of `fields`, `$fields` and "+fieldsHeader+" is enough")
	case text == "" || text == "*":
		return nil, "", nil
	case f.compile == nil:
		return nil, "", httpedge.BadField(name, "this answer is not JSON: it has no fields to choose from")
	case len(text) > maxMaskBytes:
		return nil, "", httpedge.BadField(name, "is longer than "+strconv.Itoa(maxMaskBytes)+" bytes")
	case notUTF8(text):
		return nil, "", httpedge.BadField(name, "must be UTF-8")
	}
	if m := f.known.get(text); m != nil {
		return m, text, nil
	}
	m, err := f.compile(text)
	if err != nil {
		return nil, "", badMask(name, err)
	}
	f.known.put(text, m)
	return m, text, nil
}

// mark notes in the headers of an answer that it depends on the mask's header.
func (f *fieldMasks) mark(h http.Header) {
	if f != nil && f.compile != nil {
		httpedge.AddVary(h, httpedge.VaryMask)
	}
}

// asked finds the mask's text, how often one is given, and the name it is to be
// called by.
func (f *fieldMasks) asked(h http.Header, query url.Values) (name, text string, times int) {
	note := func(as string, values []string) {
		if times == 0 && len(values) > 0 {
			name, text = as, values[0]
		}
		times += len(values)
	}
	if len(query) > 0 {
		if values := query[fieldsParam]; !f.own && len(values) > 0 {
			note(fieldsParam, values)
			delete(query, fieldsParam)
		}
		if values := query[fieldsSystem]; len(values) > 0 {
			note(fieldsSystem, values)
			delete(query, fieldsSystem)
		}
	}
	note(fieldsHeader, h[fieldsKey])
	return name, text, times
}

// badMask says what is wrong with a mask, path by path.
func badMask(name string, err error) error {
	var unknown *transcode.UnknownPathsError
	if !errors.As(err, &unknown) {
		return httpedge.BadField(name, strings.TrimPrefix(err.Error(), "transcode: "))
	}
	var bad []httpedge.FieldError
	for i, path := range unknown.Paths {
		if i == maxFindings {
			bad = append(bad, httpedge.FieldError{Field: name, Reason: "and " + strconv.Itoa(len(unknown.Paths)-i) + " more unknown paths"})
			break
		}
		bad = append(bad, httpedge.FieldError{Field: name, Reason: "unknown path " + strconv.Quote(path)})
	}
	return httpedge.BadFields(bad)
}
