package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/maypok86/otter/v2"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

const certificateIssuer = "client-certificate"

// The most certificates that are remembered, by the hash of each.
const maxCertificates = 16384

// CertificateRule says for whom the subject alternative name (SAN, RFC 5280) of
// a client certificate stands. Exactly one of URI, DNS and Email is set, with at
// most one `*`: one or more characters other than `/`, `?` and `#`, in DNS names
// other than `.`, in mail addresses other than `@`. URIs are compared as they
// stand; DNS names and the hosts of mail addresses in any case, and a subject
// taken from them is in lower case.
type CertificateRule struct {
	// URI is such as `spiffe://example.com/user/*`.
	URI string
	// DNS is such as `*.clients.example.com`.
	DNS string
	// Email is such as `*@example.com`.
	Email string
	// Subject is whom it stands for; empty means what `*` stood for, else the
	// whole name.
	Subject string
	// Scopes are what it may do.
	Scopes []string
	// Tenant it belongs to; empty means none.
	Tenant string
	// LimitClass stands in for the limit classes of the rules; empty means that
	// they hold.
	LimitClass string
}

// sanKind is the tag of a GeneralName (RFC 5280, 4.2.1.6).
type sanKind int

const (
	sanEmail sanKind = 1
	sanDNS   sanKind = 2
	sanURI   sanKind = 6
)

// san is a name of a certificate.
type san struct {
	kind sanKind
	name string
}

// sanRule is a rule, ready to match.
type sanRule struct {
	CertificateRule
	kind           sanKind
	prefix, suffix string
	wild           bool
}

// ClientCertificates knows for whom client certificates stand. It does not
// verify them: the TLS listener has. It is safe for concurrent use.
type ClientCertificates struct {
	rules []sanRule
	known *otter.Cache[[sha256.Size]byte, certified]
}

// certified is what a certificate came to; nobody is remembered too.
type certified struct{ principal *policy.Principal }

// NewClientCertificates checks the rules; the first that matches a certificate
// counts.
func NewClientCertificates(rules []CertificateRule) (*ClientCertificates, error) {
	cs := &ClientCertificates{}
	var errs []error
	for i, r := range rules {
		compiled, err := r.compile()
		if err != nil {
			errs = append(errs, fmt.Errorf("client certificate rule %d: %w", i+1, err))
		}
		cs.rules = append(cs.rules, compiled)
	}
	if len(rules) == 0 {
		errs = append(errs, errors.New("no rule for client certificates"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var err error
	cs.known, err = otter.New(&otter.Options[[sha256.Size]byte, certified]{MaximumSize: maxCertificates})
	if err != nil {
		return nil, fmt.Errorf("cache of client certificates: %w", err)
	}
	return cs, nil
}

func (r CertificateRule) compile() (sanRule, error) {
	c := sanRule{CertificateRule: r}
	n := 0
	for _, p := range []san{{sanURI, r.URI}, {sanDNS, r.DNS}, {sanEmail, r.Email}} {
		if p.name != "" {
			n++
			c.kind, c.prefix = p.kind, p.canonical()
		}
	}
	pattern := c.prefix
	c.prefix, c.suffix, c.wild = strings.Cut(pattern, "*")
	switch {
	case n != 1:
		return c, errors.New("needs exactly one of uri, dns and email")
	case !printable(pattern):
		return c, errors.New("the pattern must be printable ASCII without spaces; other host names are written in their xn-- form")
	case strings.Contains(c.suffix, "*"):
		return c, fmt.Errorf("%q has more than one *", pattern)
	case c.kind == sanEmail && strings.Count(pattern, "@") != 1:
		return c, fmt.Errorf("%q is no mail address: it needs one @, which * does not stand for", pattern)
	case r.Subject != "" && !written.valid(r.Subject):
		return c, fmt.Errorf("the subject must have up to %d bytes, no control characters, and no space at an end", MaxSubjectBytes)
	case scopeBytes(r.Scopes) > maxScopeBytes:
		return c, fmt.Errorf("scopes of %d bytes; want %d at most", scopeBytes(r.Scopes), maxScopeBytes)
	case r.Tenant != "" && !validSubject(r.Tenant):
		return c, errors.New("a tenant has up to 255 characters, and no spaces")
	}
	for _, s := range r.Scopes {
		if !validScope(s) {
			return c, fmt.Errorf("a scope is a word without spaces and quotes (RFC 6749), not %q", s)
		}
	}
	return c, nil
}

// Principal returns for whom a verified certificate stands: the first rule that
// matches one of its names counts, and of several names that it matches, the
// first. A certificate that none matches stands for nobody. The principal ends
// with the certificate.
func (cs *ClientCertificates) Principal(cert *x509.Certificate) (*policy.Principal, bool) {
	key := sha256.Sum256(cert.Raw)
	if hit, ok := cs.known.GetIfPresent(key); ok {
		return hit.principal, hit.principal != nil
	}
	p := cs.match(cert)
	cs.known.Set(key, certified{principal: p})
	return p, p != nil
}

func (cs *ClientCertificates) match(cert *x509.Certificate) *policy.Principal {
	names := sansOf(cert)
	for i := range cs.rules {
		r := &cs.rules[i]
		for _, n := range names {
			subject, ok := r.subject(n)
			if !ok {
				continue
			}
			if !validSubject(subject) && !written.valid(r.Subject) {
				return nil // The rule counts, and names nobody that can be.
			}
			p := policy.NewPrincipal(subject, certificateIssuer, r.Scopes, cert.NotAfter)
			p.Tenant, p.LimitClass = r.Tenant, r.LimitClass
			return p
		}
	}
	return nil
}

// subject matches a name.
func (r *sanRule) subject(n san) (string, bool) {
	if n.kind != r.kind {
		return "", false
	}
	subject := n.name
	if !r.wild {
		if n.name != r.prefix {
			return "", false
		}
	} else {
		rest, ok := strings.CutPrefix(n.name, r.prefix)
		if !ok {
			return "", false
		}
		if subject, ok = strings.CutSuffix(rest, r.suffix); !ok || !r.starred(subject) {
			return "", false
		}
	}
	if r.Subject != "" {
		subject = r.Subject
	}
	return subject, true
}

// starred says whether * may stand for s. A part of a path that another reader
// would take for a way elsewhere is none.
func (r *sanRule) starred(s string) bool {
	switch r.kind {
	case sanDNS:
		return s != "" && !strings.ContainsAny(s, "./")
	case sanEmail:
		return s != "" && !strings.ContainsAny(s, "@/")
	default:
		return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, "/?#")
	}
}

var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

// sansOf reads the names from the certificate's own bytes. crypto/x509 hands out
// URIs parsed, and one that is written anew is not always the one that the
// authority signed. Names with characters that a name does not have, a `*` among
// them, match nothing.
func sansOf(cert *x509.Certificate) []san {
	var names []san
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(oidSAN) {
			continue
		}
		var values []asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &values); err != nil || len(rest) > 0 {
			return nil
		}
		for _, v := range values {
			n := san{kind: sanKind(v.Tag), name: string(v.Bytes)}
			known := slices.Contains([]sanKind{sanEmail, sanDNS, sanURI}, n.kind)
			if v.Class != asn1.ClassContextSpecific || v.IsCompound || !known || !printable(n.name) || strings.Contains(n.name, "*") {
				continue
			}
			n.name = n.canonical()
			names = append(names, n)
		}
	}
	return names
}

// canonical is the name as it is compared.
func (n san) canonical() string {
	switch n.kind {
	case sanDNS:
		return strings.ToLower(n.name)
	case sanEmail:
		if at := strings.LastIndexByte(n.name, '@'); at >= 0 {
			return n.name[:at] + strings.ToLower(n.name[at:])
		}
	}
	return n.name
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}
