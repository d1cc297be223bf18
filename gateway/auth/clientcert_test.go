package auth_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/gateway/auth"
)

// The tags of names (RFC 5280).
const (
	email = 1
	dns   = 2
	uri   = 6
)

type name struct {
	tag   int
	value string
}

// certificate makes one with the names as they stand: crypto/x509 would not
// write some of them.
func certificate(t testing.TB, names ...name) *x509.Certificate {
	t.Helper()
	var values []asn1.RawValue
	for _, n := range names {
		values = append(values, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: n.tag, Bytes: []byte(n.value)})
	}
	san, err := asn1.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"},
		NotBefore: start.Add(-time.Hour), NotAfter: start.Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}},
	}
	k := newKeys()
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, k.ed.Public(), k.ed)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil { // The standard library refuses it before we would.
		return &x509.Certificate{Raw: der, Extensions: cert.ExtraExtensions, NotAfter: cert.NotAfter}
	}
	return parsed
}

func certificates(t testing.TB, rules ...auth.CertificateRule) *auth.ClientCertificates {
	t.Helper()
	cs, err := auth.NewClientCertificates(rules)
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

func TestCertificateRules(t *testing.T) {
	var (
		spiffe = auth.CertificateRule{URI: "spiffe://example.com/user/*"}
		exact  = auth.CertificateRule{URI: "spiffe://example.com/batch", Subject: "batch"}
		host   = auth.CertificateRule{DNS: "*.Clients.example.com"}
		whole  = auth.CertificateRule{DNS: "ci.example.com"}
		part   = auth.CertificateRule{DNS: "client-*.example.com"}
		mail   = auth.CertificateRule{Email: "*@Example.com"}
		one    = auth.CertificateRule{Email: "Ada@example.com"}
		anyOf  = auth.CertificateRule{Email: "ada@*"}
		fixed  = auth.CertificateRule{DNS: "*.example.org", Subject: "guest"}
	)
	for what, tc := range map[string]struct {
		rule    auth.CertificateRule
		names   []name
		subject string // "" is nobody.
	}{
		"uri":                             {spiffe, []name{{uri, "spiffe://example.com/user/ada"}}, "ada"},
		"uri, with more after":            {spiffe, []name{{uri, "spiffe://example.com/user/ada/x"}}, ""},
		"uri, nothing for the star":       {spiffe, []name{{uri, "spiffe://example.com/user/"}}, ""},
		"uri, another host":               {spiffe, []name{{uri, "spiffe://evil.example/user/ada"}}, ""},
		"uri, other case":                 {spiffe, []name{{uri, "spiffe://EXAMPLE.com/user/ada"}}, ""},
		"uri, the pattern inside":         {spiffe, []name{{uri, "https://x/?spiffe://example.com/user/ada"}}, ""},
		"uri, a query":                    {spiffe, []name{{uri, "spiffe://example.com/user/ada?x"}}, ""},
		"uri, an empty query":             {spiffe, []name{{uri, "spiffe://example.com/user/ada?"}}, ""},
		"uri, an empty fragment":          {spiffe, []name{{uri, "spiffe://example.com/user/ada#"}}, ""},
		"uri, a way up":                   {spiffe, []name{{uri, "spiffe://example.com/user/.."}}, ""},
		"uri, a star":                     {spiffe, []name{{uri, "spiffe://example.com/user/*"}}, ""},
		"uri, an escape stays one":        {spiffe, []name{{uri, "spiffe://example.com/user/a%64a"}}, "a%64a"},
		"uri, NUL":                        {spiffe, []name{{uri, "spiffe://example.com/user/ada\x00x"}}, ""},
		"uri, a line feed":                {spiffe, []name{{uri, "spiffe://example.com/user/ada\n"}}, ""},
		"uri, not ASCII":                  {spiffe, []name{{uri, "spiffe://example.com/user/\u0430da"}}, ""},
		"uri, too long":                   {spiffe, []name{{uri, "spiffe://example.com/user/" + strings.Repeat("a", 256)}}, ""},
		"uri, as a dns name":              {spiffe, []name{{dns, "spiffe://example.com/user/ada"}}, ""},
		"uri, the whole":                  {exact, []name{{uri, "spiffe://example.com/batch"}}, "batch"},
		"uri, longer than the whole":      {exact, []name{{uri, "spiffe://example.com/batch2"}}, ""},
		"uri, an empty fragment at whole": {exact, []name{{uri, "spiffe://example.com/batch#"}}, ""},
		"dns":                             {host, []name{{dns, "ada.clients.example.com"}}, "ada"},
		"dns, other case":                 {host, []name{{dns, "ADA.clients.EXAMPLE.com"}}, "ada"},
		"dns, two labels":                 {host, []name{{dns, "x.ada.clients.example.com"}}, ""},
		"dns, no label":                   {host, []name{{dns, "clients.example.com"}}, ""},
		"dns, an empty label":             {host, []name{{dns, ".clients.example.com"}}, ""},
		"dns, a wildcard certificate":     {host, []name{{dns, "*.clients.example.com"}}, ""},
		"dns, more after":                 {host, []name{{dns, "ada.clients.example.com.evil.example"}}, ""},
		"dns, a dot last":                 {host, []name{{dns, "ada.clients.example.com."}}, ""},
		"dns, the suffix without its dot": {host, []name{{dns, "adaclients.example.com"}}, ""},
		"dns, NUL":                        {host, []name{{dns, "ada\x00.clients.example.com"}}, ""},
		"dns, the whole is the subject":   {whole, []name{{dns, "CI.example.com"}}, "ci.example.com"},
		"dns, part of a label":            {part, []name{{dns, "client-7.example.com"}}, "7"},
		"dns, prefix and suffix overlap":  {auth.CertificateRule{DNS: "aba*ba"}, []name{{dns, "aba"}}, ""},
		"dns, a fixed subject":            {fixed, []name{{dns, "x.example.org"}}, "guest"},
		"mail":                            {mail, []name{{email, "ada@example.COM"}}, "ada"},
		"mail, the local part's case":     {mail, []name{{email, "Ada@example.com"}}, "Ada"},
		"mail, two ats":                   {mail, []name{{email, "ada@evil.example@example.com"}}, ""},
		"mail, a subdomain":               {mail, []name{{email, "ada@x.example.com"}}, ""},
		"mail, as a dns name":             {mail, []name{{dns, "ada@example.com"}}, ""},
		"mail, the whole":                 {one, []name{{email, "Ada@EXAMPLE.com"}}, "Ada@example.com"},
		"mail, the whole, another case":   {one, []name{{email, "ada@example.com"}}, ""},
		"mail, the host":                  {anyOf, []name{{email, "ada@X.example"}}, "x.example"},
		"no names":                        {host, nil, ""},
		"the common name does not count":  {auth.CertificateRule{DNS: "root"}, nil, ""},
		"names of other kinds":            {host, []name{{4, "ada.clients.example.com"}, {7, "\x7f\x00\x00\x01"}}, ""},
		"the first name that matches":     {host, []name{{uri, "x:y"}, {dns, "x.y"}, {dns, "ada.clients.example.com"}, {dns, "bob.clients.example.com"}}, "ada"},
		"a bad name before a good one":    {host, []name{{dns, "a\x00.clients.example.com"}, {dns, "bob.clients.example.com"}}, "bob"},
	} {
		t.Run(what, func(t *testing.T) {
			cs, cert := certificates(t, tc.rule), certificate(t, tc.names...)
			for range 2 { // The second time it is remembered.
				p, ok := cs.Principal(cert)
				if ok != (tc.subject != "") || ok != (p != nil) {
					t.Fatalf("principal %+v, %v", p, ok)
				}
				if ok && (p.Subject != tc.subject || p.Issuer != "client-certificate" || !p.Expires.Equal(start.Add(time.Hour))) {
					t.Errorf("principal %+v", p)
				}
			}
		})
	}
}

func TestTheFirstCertificateRuleCounts(t *testing.T) {
	cs := certificates(t,
		auth.CertificateRule{URI: "spiffe://example.com/*", Scopes: []string{"b", "a"}, Tenant: "acme", LimitClass: "batch"},
		auth.CertificateRule{DNS: "*.example.com", Scopes: []string{"admin"}},
	)
	p, ok := cs.Principal(certificate(t, name{dns, "root.example.com"}, name{uri, "spiffe://example.com/ada"}))
	if !ok || p.Subject != "ada" || p.Scope() != "a b" || p.Tenant != "acme" || p.LimitClass != "batch" || p.APIKey != "" {
		t.Errorf("principal %+v", p)
	}
	p, ok = cs.Principal(certificate(t, name{dns, "root.example.com"}))
	if !ok || p.Subject != "root" || p.Scope() != "admin" {
		t.Errorf("principal %+v", p)
	}
	// A rule that matches, and names nobody that can be, is not passed over for
	// one that grants more.
	if p, ok = cs.Principal(certificate(t, name{uri, "spiffe://example.com/" + strings.Repeat("a", 256)}, name{dns, "root.example.com"})); ok {
		t.Errorf("principal %+v", p)
	}
	// Names that cannot be read are no names.
	broken := certificate(t, name{dns, "root.example.com"})
	broken.Raw, broken.Extensions = append(broken.Raw[:0:0], 'x'), []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: []byte{0x30, 0x05, 0x82}}}
	if p, ok = cs.Principal(broken); ok {
		t.Errorf("principal %+v", p)
	}
}

func TestBadCertificateRulesStopTheStart(t *testing.T) {
	for what, rule := range map[string]auth.CertificateRule{
		"no pattern":           {Subject: "ada"},
		"two patterns":         {URI: "a:b", DNS: "a.b"},
		"two stars":            {DNS: "*.*.example.com"},
		"a space":              {DNS: "a b"},
		"not ASCII":            {DNS: "\u0430.example"},
		"mail without an at":   {Email: "*example.com"},
		"mail with two":        {Email: "a@b@example.com"},
		"a subject of lines":   {DNS: "a", Subject: "a\nb"},
		"a space at its end":   {DNS: "a", Subject: "a "},
		"a tenant of two":      {DNS: "a", Tenant: "a b"},
		"a scope of two":       {DNS: "a", Scopes: []string{"a b"}},
		"a subject with a NUL": {DNS: "a", Subject: "a\x00"},
	} {
		if _, err := auth.NewClientCertificates([]auth.CertificateRule{{DNS: "ok.example"}, rule}); err == nil || !strings.Contains(err.Error(), "client certificate rule 2: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := auth.NewClientCertificates(nil); err == nil {
		t.Error("no rule at all was accepted")
	}
}

// FuzzCertificateNames: a certificate stands for nobody but whom its name says.
func FuzzCertificateNames(f *testing.F) {
	for _, seed := range []string{"spiffe://example.com/user/ada", "spiffe://example.com/user/", "ada.clients.example.com", "ada@example.com", "*", "a\x00b"} {
		f.Add(uri, seed)
		f.Add(dns, seed)
		f.Add(email, seed)
	}
	cs := certificates(f, auth.CertificateRule{URI: "spiffe://example.com/user/*"}, auth.CertificateRule{DNS: "*.clients.example.com"}, auth.CertificateRule{Email: "*@example.com"})
	f.Fuzz(func(t *testing.T, tag int, value string) {
		if tag < 0 || tag > 30 || len(value) > 1000 {
			return
		}
		san, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(value)}})
		if err != nil {
			return
		}
		p, ok := cs.Principal(&x509.Certificate{Raw: san, NotAfter: start, Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}}})
		if !ok {
			return
		}
		whole := map[int]string{uri: "spiffe://example.com/user/" + p.Subject, dns: p.Subject + ".clients.example.com", email: p.Subject + "@example.com"}[tag]
		if !strings.EqualFold(whole, value) || tag == uri && whole != value || strings.ContainsAny(p.Subject, "/@*") && tag != dns && tag != uri {
			t.Fatalf("%d %q is %q", tag, value, p.Subject)
		}
		for _, r := range p.Subject {
			if r <= ' ' || r >= 0x7f {
				t.Fatalf("%q is %q", value, p.Subject)
			}
		}
	})
}

func TestCertificateHitDoesNotAllocate(t *testing.T) {
	cs, cert := certificates(t, auth.CertificateRule{DNS: "*.example.com"}), certificate(t, name{dns, "ada.example.com"})
	found := true
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := cs.Principal(cert); !ok {
			found = false
		}
	}); n > 0 || !found {
		t.Errorf("%v allocations, found %v", n, found)
	}
}

func BenchmarkCertificateHit(b *testing.B) {
	cs := certificates(b, auth.CertificateRule{DNS: "*.example.com"})
	cert := certificate(b, name{dns, "ada.example.com"}, name{uri, "https://example.com/" + strings.Repeat("x", 600)})
	b.ReportAllocs()
	b.ReportMetric(float64(len(cert.Raw)), "certificate-bytes")
	for b.Loop() {
		if _, ok := cs.Principal(cert); !ok {
			b.Fatal("nobody")
		}
	}
}

func BenchmarkCertificateMiss(b *testing.B) {
	cert := certificate(b, name{dns, "ada.example.com"})
	cs := certificates(b, auth.CertificateRule{URI: "spiffe://x/*"}, auth.CertificateRule{DNS: "*.example.com"})
	raw := cert.Raw
	b.ReportAllocs()
	for i := range b.N {
		cert.Raw = append(raw[:len(raw):len(raw)], byte(i), byte(i>>8), byte(i>>16), byte(i>>24))
		if _, ok := cs.Principal(cert); !ok {
			b.Fatal("nobody")
		}
	}
}
