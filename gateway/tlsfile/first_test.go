package tlsfile_test

import (
	"bytes"
	"crypto/tls"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/gateway/tlsfile"
)

// TestServerFirstLoad: what is wrong stops the start, and says where.
func TestServerFirstLoad(t *testing.T) {
	ca, d := newAuthority(t, "ca"), newDir(t)
	cert, key := d.putPair(t, "a", ca.issue(t, "a", nil))
	otherCert, _ := d.putPair(t, "b", ca.issue(t, "b", nil))
	empty, garbage := d.put(t, "empty", nil), d.put(t, "garbage", []byte("garbage"))
	large := d.put(t, "large", bytes.Repeat([]byte{'x'}, 2<<20))
	half := d.put(t, "half", append(append([]byte(nil), ca.pem...), ca.pem[:100]...))
	broken := d.put(t, "broken", append([]byte("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"), ca.pem...))
	for name, tc := range map[string]struct {
		o    tlsfile.ServerOptions
		want []string
	}{
		"no files":            {tlsfile.ServerOptions{}, []string{"cert_file"}},
		"no key":              {tlsfile.ServerOptions{CertFile: cert}, []string{"key_file"}},
		"cert is not there":   {tlsfile.ServerOptions{CertFile: d.path("nowhere"), KeyFile: key}, []string{"cert_file", "nowhere", "no such file"}},
		"key is not there":    {tlsfile.ServerOptions{CertFile: cert, KeyFile: d.path("nowhere")}, []string{"key_file", "nowhere"}},
		"cert of another key": {tlsfile.ServerOptions{CertFile: otherCert, KeyFile: key}, []string{otherCert, key, "does not match"}},
		"empty cert":          {tlsfile.ServerOptions{CertFile: empty, KeyFile: key}, []string{empty, "PEM"}},
		"garbage":             {tlsfile.ServerOptions{CertFile: garbage, KeyFile: key}, []string{garbage, "PEM"}},
		"large":               {tlsfile.ServerOptions{CertFile: large, KeyFile: key}, []string{large, "larger"}},
		"directory":           {tlsfile.ServerOptions{CertFile: string(d), KeyFile: key}, []string{"not a regular file"}},
		"no authorities":      {tlsfile.ServerOptions{CertFile: cert, KeyFile: key, ClientCAFile: empty}, []string{"client_ca_file", empty, "no PEM"}},
		"half of them":        {tlsfile.ServerOptions{CertFile: cert, KeyFile: key, ClientCAFile: half}, []string{half, "not whole"}},
		"a broken one first":  {tlsfile.ServerOptions{CertFile: cert, KeyFile: key, ClientCAFile: broken}, []string{broken, "not whole"}},
		"a key as authority":  {tlsfile.ServerOptions{CertFile: cert, KeyFile: key, ClientCAFile: key}, []string{"PRIVATE KEY"}},
		"required of nobody":  {tlsfile.ServerOptions{CertFile: cert, KeyFile: key, RequireClientCert: true}, []string{"client_ca_file"}},
		"TLS 1.1":             {tlsfile.ServerOptions{CertFile: cert, KeyFile: key, MinVersion: tls.VersionTLS11}, []string{"min_version"}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.o.Name = "grpc"
			_, err := tlsfile.Server(tc.o)
			if err == nil {
				t.Fatal("it starts")
			}
			for _, want := range append(tc.want, "TLS of grpc") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not name %q", err, want)
				}
			}
		})
	}
}
