package cache

import (
	"encoding/binary"

	"github.com/sluice-gateway/sluice/gateway/policy"
)

// Keys are compared whole, so no two that differ share an answer: they are no hashes.
// Each part stands behind its length, so that no part can reach into the next:
//
//	route name | scope | vary paths | tags | principal, where the scope is PRINCIPAL | the caller's parts

// AppendPart appends a part of a key to dst.
func AppendPart[T ~string | ~[]byte](dst []byte, part T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(part)))
	return append(dst, part...)
}

// prefix is what the keys of a route begin with. Paths of vary and tags are in it:
// after a reload with other ones, what was kept by the old must not be found.
func prefix(name string, rule *policy.Cache) []byte {
	b := AppendPart(nil, name)
	scope := byte('p')
	if rule.Public {
		scope = '*'
	}
	b = binary.AppendUvarint(append(b, scope), uint64(len(rule.Vary)))
	for _, path := range rule.Vary {
		b = AppendPart(b, path)
	}
	b = binary.AppendUvarint(b, uint64(len(rule.Tags)))
	for _, tag := range rule.Tags {
		b = AppendPart(b, tag)
	}
	return b
}

// AppendKey begins a key for an answer to p. What the answer differs by otherwise is
// appended by AppendPart.
func (r *Route) AppendKey(dst []byte, p *policy.Principal) []byte {
	dst = append(dst, r.prefix...)
	if r.rule.Public {
		return dst
	}
	dst = AppendPart(dst, p.Issuer)
	dst = AppendPart(dst, p.Subject)
	dst = AppendPart(dst, p.Tenant)
	scopes := p.Scopes() // One by one: the text of Scope does not tell one with a space from two.
	dst = binary.AppendUvarint(dst, uint64(len(scopes)))
	for _, s := range scopes {
		dst = AppendPart(dst, s)
	}
	return dst
}
