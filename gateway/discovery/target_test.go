package discovery

import (
	"net"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseTarget(t *testing.T) {
	for in, want := range map[string]Target{
		"127.0.0.1:80":                        {Scheme: Static, Name: "127.0.0.1", Addr: "127.0.0.1:80"},
		"[::1]:80":                            {Scheme: Static, Name: "::1", Addr: "[::1]:80"},
		"users.internal:443":                  {Scheme: DNS, Name: "users.internal", Port: "443"},
		"dns:///users.internal:443":           {Scheme: DNS, Name: "users.internal", Port: "443"},
		"dns:users.internal:443":              {Scheme: DNS, Name: "users.internal", Port: "443"},
		"dns:53":                              {Scheme: DNS, Name: "dns", Port: "53"},
		"etcd:2379":                           {Scheme: DNS, Name: "etcd", Port: "2379"},
		"dns:///10.0.0.1:443":                 {Scheme: Static, Name: "10.0.0.1", Addr: "10.0.0.1:443"},
		"passthrough:///10.0.0.1:443":         {Scheme: Static, Name: "10.0.0.1", Addr: "10.0.0.1:443"},
		"unix:/run/x.sock":                    {Scheme: Static, Name: "localhost", Addr: "unix:/run/x.sock"},
		"unix:///run/x.sock":                  {Scheme: Static, Name: "localhost", Addr: "unix:///run/x.sock"},
		"etcd:///users":                       {Scheme: Etcd, Name: "users"},
		"etcd:///team/users":                  {Scheme: Etcd, Name: "team/users"},
		"consul:///users":                     {Scheme: Consul, Name: "users"},
		"consul:///users?tag=v2":              {Scheme: Consul, Name: "users", Tag: "v2"},
		"xds:///users.example.com":            {Scheme: XDS, Name: "users.example.com"},
		"xds:///a/b?c=d":                      {Scheme: XDS, Name: "a/b?c=d"},
		"":                                    {},
		"users":                               {},
		"users:http":                          {},
		"users:0":                             {},
		"users:65536":                         {},
		":80":                                 {},
		"us ers:80":                           {},
		"nope:///users":                       {},
		"http://users:80":                     {},
		"dns://8.8.8.8/users:80":              {},
		"etcd:///":                            {},
		"etcd:////users":                      {},
		"etcd:///../users":                    {},
		"etcd:///users/":                      {},
		"etcd://host/users":                   {},
		"etcd:///users?tag=v2":                {},
		"consul:///a/b":                       {},
		"consul:///users?dc=1":                {},
		"consul:///users?tag=":                {},
		"consul:///users?tag=a&tag=b":         {},
		"consul:///users?%zz":                 {},
		"unix:":                               {},
		"unix:///":                            {},
		"xds:///":                             {},
		"passthrough:///x":                    {},
		"etcd:///" + strings.Repeat("x", 254): {},
	} {
		got, err := ParseTarget(in)
		if got != want || (err == nil) != (want.Scheme != "") {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
		if err != nil && !strings.Contains(err.Error(), "write host:port") {
			t.Errorf("%q: the error does not say what to do: %v", in, err)
		}
	}
}

func TestParseEndpoint(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1:80": "10.0.0.1:80", "users:80": "users:80", "unix:/x": "unix:/x",
		"dns:///users:80": "", "etcd:///users": "", "passthrough:///users:80": "", "users": "", "dns:///10.0.0.1:80": "10.0.0.1:80",
	} {
		if got, err := ParseEndpoint(in); got.Addr != want || (err == nil) != (want != "") {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"a:1", "dns:///a:1", "etcd:///a/b", "consul:///a?tag=b", "unix:///a", "xds:///a", "[::1]:1", "passthrough:///a:1", "etcd:///a%2f..", "dns:a:b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseTarget(s)
		if err != nil {
			if got != (Target{}) {
				t.Fatalf("%+v with %v", got, err)
			}
			return
		}
		switch got.Scheme {
		case Static:
			if got.Addr == "" || got.Name == "" && !strings.HasPrefix(s, "passthrough") {
				t.Fatalf("%+v", got)
			}
		case DNS:
			again, err := ParseTarget(net.JoinHostPort(got.Name, got.Port))
			if err != nil || again != got {
				t.Fatalf("%+v is read again as %+v, %v", got, again, err)
			}
		case Etcd, Consul:
			if strings.Contains(got.Name, "..") && strings.Contains("/"+got.Name+"/", "/../") || strings.HasPrefix(got.Name, "/") || strings.ContainsAny(got.Name, "?#% \n") {
				t.Fatalf("%q would mean another key", got.Name)
			}
		case XDS:
		default:
			t.Fatalf("scheme %q", got.Scheme)
		}
	})
}

func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{`{"Op":0,"Addr":"10.0.0.1:80","Metadata":null}`, `{"Addr":"a:1","Metadata":5}`, `{"Addr":"a:1","Metadata":{"weight":3}}`, `{"Addr":"unix:/x"}`, `{"Addr":"a:1","Metadata":1e300}`, `[]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		b, err := parseEndpoint(value)
		if err != nil {
			return
		}
		if _, _, err := net.SplitHostPort(b.Addr); err != nil || b.Weight < 1 || b.Weight > maxWeight {
			t.Fatalf("%+v, %v", b, err)
		}
	})
}
