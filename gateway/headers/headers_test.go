package headers_test

import (
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/headers"
	"github.com/sluice-gateway/sluice/gateway/policy"
)

func values(h http.Header) headers.Values {
	p := policy.NewPrincipal("ada", "https://issuer", nil, time.Time{})
	p.Tenant = "acme"
	return headers.Values{
		Call: &policy.Call{
			RequestID: "r-1", Principal: p, Client: netip.MustParseAddr("192.0.2.1"), Variant: "next",
			Edge: policy.EdgeREST, Headers: h.Values,
		},
		Route: "shop.user.v1.UserService/GetUser",
		Path:  func(name string) string { return "<" + name + ">" },
	}
}

var scope = headers.Scope{PathVariables: []string{"user_id"}}

func TestApply(t *testing.T) {
	for _, tc := range []struct {
		name  string
		rules headers.Rules
		have  http.Header
		want  http.Header
	}{
		{"nothing", headers.Rules{}, http.Header{"A": {"1"}}, http.Header{"A": {"1"}}},
		{"set stands in the place of all", headers.Rules{Set: map[string]string{"x-env": "prod"}}, http.Header{"X-Env": {"1", "2"}}, http.Header{"X-Env": {"prod"}}},
		{"add stands beside", headers.Rules{Add: map[string]string{"x-env": "prod"}}, http.Header{"X-Env": {"1"}}, http.Header{"X-Env": {"1", "prod"}}},
		{"remove, then set, then add", headers.Rules{Remove: []string{"x-a", "x-b"}, Set: map[string]string{"X-A": "s"}, Add: map[string]string{"X-A": "a"}},
			http.Header{"X-A": {"1"}, "X-B": {"1"}}, http.Header{"X-A": {"s", "a"}}},
		{"every variable", headers.Rules{Set: map[string]string{
			"X-All": "{request_id} {principal.subject} {principal.tenant} {principal.issuer} {client.address} {route} {variant} {header.x-asked} {path.user_id}",
		}}, http.Header{"X-Asked": {"q"}}, http.Header{"X-Asked": {"q"}, "X-All": {"r-1 ada acme https://issuer 192.0.2.1 shop.user.v1.UserService/GetUser next q <user_id>"}}},
		{"braces are written twice", headers.Rules{Set: map[string]string{"X-A": `{{"id":"{request_id}"}}`}}, http.Header{}, http.Header{"X-A": {`{"id":"r-1"}`}}},
		{"what a caller sends ends no line", headers.Rules{Set: map[string]string{"X-A": "is {header.x-evil}"}},
			http.Header{"X-Evil": {"a\r\nX-Admin: 1"}, "X-A": {"the caller's"}}, http.Header{"X-Evil": {"a\r\nX-Admin: 1"}}},
		{"an empty value is no header", headers.Rules{Set: map[string]string{"X-A": "{header.x-none}"}, Add: map[string]string{"X-B": "{header.x-none}"}}, http.Header{"X-A": {"the caller's"}}, http.Header{}},
		{"several lines are one list", headers.Rules{Set: map[string]string{"X-A": "{header.x-asked}"}}, http.Header{"X-Asked": {"a", "b"}}, http.Header{"X-Asked": {"a", "b"}, "X-A": {"a, b"}}},
		{"too long is no header", headers.Rules{Add: map[string]string{"X-B": "{header.x-long}!"}}, http.Header{"X-Long": {strings.Repeat("x", headers.MaxValueBytes)}}, http.Header{"X-Long": {strings.Repeat("x", headers.MaxValueBytes)}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := headers.Compile(tc.rules, scope)
			if err != nil {
				t.Fatal(err)
			}
			have := tc.have.Clone()
			p.Apply(have, values(tc.have))
			if !reflect.DeepEqual(have, tc.want) {
				t.Errorf("%v, not %v", have, tc.want)
			}
		})
	}
}

// TestMetadataOnly: what is fit for HTTP, but not for gRPC's metadata, is left out there.
func TestMetadataOnly(t *testing.T) {
	p, err := headers.Compile(headers.Rules{Set: map[string]string{"X-A": "{header.x-asked}", "X-Env": "prod"}}, headers.Scope{GRPC: true})
	if err != nil {
		t.Fatal(err)
	}
	md := lower{}
	p.Apply(md, values(http.Header{"X-Asked": {"grüße"}}))
	if !reflect.DeepEqual(md, lower{"x-env": {"prod"}}) {
		t.Errorf("%v", md)
	}
}

type lower map[string][]string

func (l lower) Set(k, v string) { l[k] = []string{v} }
func (l lower) Add(k, v string) { l[k] = append(l[k], v) }
func (l lower) Del(k string)    { delete(l, k) }

func TestRefused(t *testing.T) {
	set := func(name, value string) headers.Rules { return headers.Rules{Set: map[string]string{name: value}} }
	grpc, response := headers.Scope{GRPC: true}, headers.Scope{Response: true}
	for name, tc := range map[string]struct {
		rules headers.Rules
		scope headers.Scope
		want  string
	}{
		"pseudo":                            {set(":path", "x"), scope, "colon"},
		"space":                             {set("x a", "x"), scope, "letters"},
		"line break in a name":              {set("x\r\na", "x"), scope, "letters"},
		"no name":                           {set("", "x"), scope, "letters"},
		"hop by hop":                        {set("Connection", "x"), scope, "for themselves"},
		"length":                            {headers.Rules{Remove: []string{"Content-Length"}}, scope, "for themselves"},
		"type":                              {set("content-type", "x"), grpc, "for themselves"},
		"authorization":                     {headers.Rules{Add: map[string]string{"AUTHORIZATION": "x"}}, scope, "for themselves"},
		"assertion":                         {set("X-Sluice-Assertion", "x"), grpc, "for themselves"},
		"grpc-":                             {set("grpc-timeout", "1H"), grpc, "for themselves"},
		"user agent of gRPC":                {set("user-agent", "x"), grpc, "for themselves"},
		"request id":                        {set("X-Request-ID", "x"), response, "for themselves"},
		"who calls":                         {set("X-User-ID", "x"), scope, "for themselves"},
		"where from":                        {set("X-Forwarded-For", "x"), scope, "for themselves"},
		"CORS":                              {set("Access-Control-Allow-Origin", "*"), response, "for themselves"},
		"challenge":                         {set("WWW-Authenticate", "x"), response, "for themselves"},
		"a second ETag":                     {set("etag", "x"), headers.Scope{GRPC: true, Response: true}, "for themselves"},
		"binary":                            {set("x-a-bin", "x"), grpc, "-bin"},
		"key of metadata":                   {set("x!a", "x"), grpc, "metadata key"},
		"remove from metadata":              {headers.Rules{Remove: []string{"x-a"}}, grpc, "nothing to take away"},
		"line break in a value":             {set("x-a", "a\r\nb: c"), scope, "line break"},
		"beyond ASCII":                      {set("x-a", "grüße"), grpc, "line break"},
		"empty":                             {set("x-a", " "), scope, "empty"},
		"too long":                          {set("x-a", strings.Repeat("x", headers.MaxValueBytes+1)), scope, "bytes"},
		"unknown variable":                  {set("x-a", "{principal.scopes}"), scope, "is none of"},
		"no such path variable":             {set("x-a", "{path.order_id}"), scope, "no such variable"},
		"no path at all":                    {set("x-a", "{path.user_id}"), grpc, "no such variable"},
		"not closed":                        {set("x-a", "a {request_id"), scope, "written twice"},
		"not opened":                        {set("x-a", "a }"), scope, "written twice"},
		"header without a name":             {set("x-a", "{header.}"), scope, "follows the point"},
		"a credential":                      {set("x-a", "{header.Authorization}"), scope, "credential"},
		"a credential of the configuration": {set("x-a", "{header.X-Shop-Key}"), headers.Scope{Secret: []string{"x-shop-key"}}, "credential"},
		"a cookie":                          {set("x-a", "{header.cookie}"), response, "credential"},
		"two spellings":                     {headers.Rules{Set: map[string]string{"x-a": "1", "X-A": "2"}}, scope, "two spellings"},
		"removed twice":                     {headers.Rules{Remove: []string{"x-a", "X-A"}}, scope, `remove "X-A": it is there twice`},
		"all of it is told":                 {headers.Rules{Set: map[string]string{"host": "1"}, Remove: []string{"te"}}, scope, `remove "te"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := headers.Compile(tc.rules, tc.scope)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// FuzzApply: whatever is compiled and whatever a caller sends, no header comes out that
// ends its line, and no name of the gateway's own.
func FuzzApply(f *testing.F) {
	f.Add("x-a", "a {header.x-asked} {{}} {path.user_id}", "value", false)
	f.Add("X-Sluice-Assertion", "x", "a\r\nb: c", true)
	f.Add("x-b", "{request_id", "\x00", true)
	f.Fuzz(func(t *testing.T, name, value, asked string, grpc bool) {
		s := scope
		s.GRPC = grpc
		p, err := headers.Compile(headers.Rules{Set: map[string]string{name: value}, Add: map[string]string{name: value}}, s)
		if err != nil {
			return
		}
		out := lower{}
		p.Apply(out, values(http.Header{"X-Asked": {asked}}))
		for k, all := range out {
			if strings.HasPrefix(strings.ToLower(k), "x-sluice-") || strings.ContainsAny(k, ":\r\n ") {
				t.Errorf("name %q", k)
			}
			for _, v := range all {
				if v == "" || len(v) > headers.MaxValueBytes || strings.ContainsAny(v, "\r\n\x00") {
					t.Errorf("value %q", v)
				}
			}
		}
	})
}

func BenchmarkApply(b *testing.B) {
	p, err := headers.Compile(headers.Rules{Set: map[string]string{"X-Env": "prod", "X-Subject": "{principal.subject}"}}, headers.Scope{})
	if err != nil {
		b.Fatal(err)
	}
	h, v := http.Header{}, values(http.Header{})
	b.ReportAllocs()
	for b.Loop() {
		p.Apply(h, v)
	}
}
