package rest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
)

// clientPair is a client's certificate that is its own authority.
func clientPair(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"ada.clients.example.com"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parsed}, pool
}

// serveTLS starts a server that verifies the certificates of clients that have
// one; the clients it returns have one, and none.
func (e *edge) serveTLS(t *testing.T, http2 bool) (url string, with, without *http.Client) {
	t.Helper()
	pair, pool := clientPair(t)
	srv := httptest.NewUnstartedServer(e)
	srv.EnableHTTP2 = http2
	srv.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), 0)
	srv.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	without = srv.Client()
	transport, ok := without.Transport.(*http.Transport)
	if !ok {
		t.Fatalf("transport %T", without.Transport)
	}
	transport = transport.Clone()
	transport.TLSClientConfig.Certificates = []tls.Certificate{pair}
	t.Cleanup(transport.CloseIdleConnections)
	return srv.URL, &http.Client{Transport: transport}, without
}

func TestCrossSite(t *testing.T) {
	const (
		app  = "https://app.example.com"
		evil = "https://evil.example"
		self = "https://self" // Stands for the server's own origin.
	)
	credentials := &httpedge.CORSOptions{AllowedOrigins: []string{app, "https://*.shop.example.com"}, AllowCredentials: true}
	header := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Add(pairs[i], pairs[i+1])
		}
		return h
	}
	cross := func(origin string, more ...string) http.Header {
		return header(append([]string{"Origin", origin, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, more...)...)
	}
	anyone := &httpedge.CORSOptions{AllowedOrigins: []string{"*"}}
	for name, tc := range map[string]struct {
		cors         *httpedge.CORSOptions
		method, body string
		header       http.Header
		anonymous    bool // The client has no certificate.
		passes       bool
	}{
		"a form":                        {method: "POST", body: "a=b", header: cross(evil, "Content-Type", "application/x-www-form-urlencoded")},
		"no type":                       {method: "POST", body: `{"id":"x"}`, header: cross(evil)},
		"text":                          {method: "POST", body: `{"id":"x"}`, header: cross(evil, "Content-Type", "text/plain")},
		"json":                          {method: "POST", body: `{"id":"x"}`, header: cross(evil, "Content-Type", "application/json")},
		"no body":                       {method: "POST", header: cross(evil)},
		"another site of the domain":    {method: "POST", header: header("Origin", "https://b.example.com", "Sec-Fetch-Site", "same-site")},
		"a sandbox":                     {method: "POST", header: cross("null")},
		"an old browser":                {method: "POST", header: header("Origin", evil)},
		"an old browser, a sandbox":     {method: "POST", header: header("Origin", "null")},
		"an old browser, own name":      {method: "POST", header: header("Origin", self+".evil.example")},
		"fetch metadata alone":          {method: "POST", header: header("Sec-Fetch-Site", "cross-site")},
		"unknown fetch metadata":        {method: "POST", header: header("Sec-Fetch-Site", "elsewhere")},
		"two origins":                   {method: "POST", header: header("Origin", self, "Origin", evil)},
		"fetch metadata twice":          {method: "POST", header: header("Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "cross-site")},
		"a key that is a browser's own": {method: "POST", header: cross(evil, "User-Agent", "Mozilla/5.0", "Cookie", "k=1")},
		"CORS for others":               {cors: credentials, method: "POST", header: cross(evil)},
		"CORS, almost":                  {cors: credentials, method: "POST", header: cross("https://a.b.shop.example.com")},
		"CORS, two origins":             {cors: credentials, method: "POST", header: cross(app, "Origin", evil)},
		"CORS without credentials":      {cors: &httpedge.CORSOptions{AllowedOrigins: []string{app}}, method: "POST", header: cross(app)},
		"CORS for everyone":             {cors: anyone, method: "POST", header: cross(evil)},
		"CORS for null":                 {cors: &httpedge.CORSOptions{AllowedOrigins: []string{"null"}}, method: "POST", header: cross("null")},

		"CORS with credentials":            {cors: credentials, method: "POST", body: `{"id":"x"}`, header: cross(app, "Content-Type", "application/json"), passes: true},
		"CORS with credentials, a pattern": {cors: credentials, method: "POST", header: cross("https://a.shop.example.com"), passes: true},
		"a program":                        {method: "POST", body: `{"id":"x"}`, header: header("Content-Type", "application/json"), passes: true},
		"our own page":                     {method: "POST", header: header("Origin", self, "Sec-Fetch-Site", "same-origin"), passes: true},
		"our own page, an old browser":     {method: "POST", header: header("Origin", self), passes: true},
		"the user":                         {method: "POST", header: header("Sec-Fetch-Site", "none"), passes: true},
		"reading":                          {method: "GET", header: cross(evil), passes: true},
		"reading the head":                 {method: "HEAD", header: cross(evil), passes: true},
		"a token":                          {method: "POST", header: cross(evil, "Authorization", "Bearer x"), passes: true},
		"a key":                            {method: "POST", header: cross(evil, "X-Partner-Key", "x"), passes: true},
		"no certificate":                   {method: "POST", header: cross(evil), anonymous: true, passes: true},
	} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(name+"/"+protocol, func(t *testing.T) {
				e := newEdge(t, func(o *edgeOptions) { o.CORS, o.APIKeyHeader = tc.cors, "x-partner-key" })
				url, with, without := e.serveTLS(t, protocol == "HTTP/2.0")
				client := with
				if tc.anonymous {
					client = without
				}
				r, err := http.NewRequestWithContext(t.Context(), tc.method, url+echoPath, strings.NewReader(tc.body))
				if err != nil {
					t.Fatal(err)
				}
				for k, vs := range tc.header {
					for _, v := range vs {
						r.Header.Add(k, strings.Replace(v, self, url, 1))
					}
				}
				res, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				if a := readAnswer(t, res); tc.passes {
					if a.status != http.StatusOK || e.conn.called() != 1 || len(e.refused()) != 0 {
						t.Errorf("refused: %d %s %v", a.status, a.body, e.refused())
					}
				} else if a.status != http.StatusForbidden || a.reason != "CROSS_ORIGIN" || e.conn.called() != 0 || !slices.Equal(e.refused(), []string{"cross_origin"}) {
					t.Errorf("status %d, reason %q, %d calls, refused %v: %s", a.status, a.reason, e.conn.called(), e.refused(), a.body)
				}
				if res.Proto != protocol {
					t.Errorf("over %s", res.Proto)
				}
			})
		}
	}
}
