package headers_test

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

func pass(t testing.TB, request, response []string) *headers.Pass {
	t.Helper()
	p, err := headers.CompilePass(&policy.Method{Rule: policy.Rule{Metadata: policy.Metadata{Request: request, Response: response}}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPassResponse: names pass whole or not at all, and the service's own map is left
// alone.
func TestPassResponse(t *testing.T) {
	long := strings.Repeat("x", headers.MaxResponsePassed/2)
	for name, tc := range map[string]struct {
		names      []string
		md         map[string][]string
		want       map[string][]string
		unsendable []string
	}{
		"named":              {[]string{"X-A"}, map[string][]string{"x-a": {"1", "2"}, "x-b": {"3"}}, map[string][]string{"x-a": {"1", "2"}}, nil},
		"not there":          {[]string{"x-a"}, map[string][]string{"x-b": {"3"}}, nil, nil},
		"empty value":        {[]string{"x-a"}, map[string][]string{"x-a": {""}}, map[string][]string{"x-a": {""}}, nil},
		"a line break":       {[]string{"x-a", "x-b"}, map[string][]string{"x-a": {"1", "2\r\nx-c: 3"}, "x-b": {"3"}}, map[string][]string{"x-b": {"3"}}, []string{"x-a"}},
		"beyond ASCII":       {[]string{"x-a"}, map[string][]string{"x-a": {"grüße"}}, nil, []string{"x-a"}},
		"bytes":              {[]string{"x-a-bin"}, map[string][]string{"x-a-bin": {"\r\n\x00\xff"}}, map[string][]string{"x-a-bin": {"\r\n\x00\xff"}}, nil},
		"too much":           {[]string{"x-b", "x-a", "x-c"}, map[string][]string{"x-a": {long}, "x-b": {long}, "x-c": {"1"}}, map[string][]string{"x-a": {long}, "x-c": {"1"}}, []string{"x-b"}},
		"too much of a name": {[]string{"x-a"}, map[string][]string{"x-a": {long, long}}, nil, []string{"x-a"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, unsendable := pass(t, nil, tc.names).Response(tc.md)
			same := len(got) == len(tc.want)
			for k, v := range tc.want {
				same = same && slices.Equal(got[k], v)
			}
			if !same || !slices.Equal(unsendable, tc.unsendable) {
				t.Errorf("%.100v, %v", got, unsendable)
			}
		})
	}
	var none *headers.Pass
	if got, bad := none.Response(map[string][]string{"x-a": {"1"}}); got != nil || bad != nil || none.Requests() || none.Responds() {
		t.Error("nothing lets something pass")
	}
}

// FuzzPass: whatever a caller and a service send under names that pass, what comes out
// is what went in, and no value ends a line.
func FuzzPass(f *testing.F) {
	f.Add("en", "aGk=", "a\r\nb: c")
	f.Add("", "aGk,aG8=", "\xff")
	f.Add(strings.Repeat("x", headers.MaxRequestPassed), "=", "x")
	p := pass(f, []string{"x-lang", "x-blob-bin"}, []string{"x-a", "x-a-bin"})
	f.Fuzz(func(t *testing.T, lang, blob, said string) {
		h := http.Header{"X-Lang": {lang}, "X-Blob-Bin": {blob}}
		for _, edge := range []policy.Edge{policy.EdgeREST, policy.EdgeGRPC} {
			got := map[string][]string{}
			err := p.Request(&policy.Call{Edge: edge, BytesDecoded: edge == policy.EdgeGRPC, Headers: func(key string) []string { return h[http.CanonicalHeaderKey(key)] }}, func(k, v string) { got[k] = append(got[k], v) })
			if err != nil {
				continue
			}
			if len(got["x-lang"]) != 1 || got["x-lang"][0] != lang || strings.ContainsAny(lang, "\r\n\x00") {
				t.Errorf("%q became %q", lang, got["x-lang"])
			}
			if edge == policy.EdgeGRPC && (len(got["x-blob-bin"]) != 1 || got["x-blob-bin"][0] != blob) {
				t.Errorf("%q became %q", blob, got["x-blob-bin"])
			}
		}
		out, _ := p.Response(map[string][]string{"x-a": {said}, "x-a-bin": {said}, "x-b": {said}})
		for k, v := range out {
			text := headers.EncodeHTTP(k, v[0])
			if strings.ContainsAny(text, "\r\n\x00") || k != "x-a" && k != "x-a-bin" {
				t.Errorf("%s: %q", k, text)
			}
			if b, err := base64.StdEncoding.DecodeString(text); k == "x-a-bin" && (err != nil || string(b) != said) {
				t.Errorf("%q became %q", said, text)
			}
		}
	})
}
