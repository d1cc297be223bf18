package config

import (
	"net/netip"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// crossCheckEdge looks at what the listeners tell of themselves and whom they
// believe.
func (f *file) crossCheckEdge(c *configv1.Config) {
	if h := c.GetHttp(); h.GetHstsMaxAge().AsDuration() > 0 && h.GetTls() == nil {
		f.at([]any{"http", "hsts_max_age"}, "hsts_max_age needs http.tls: over plain text browsers ignore the header; where TLS ends before the gateway, it is sent there")
	}
	for i, text := range c.GetClientAddress().GetTrustedProxies() {
		if everyone(text) {
			f.at([]any{"client_address", "trusted_proxies", i}, "%s trusts everyone, who could then take any address: name the proxies' networks", text)
		}
	}
	if len(c.GetAuth().GetClientCertificates()) > 0 && c.GetHttp().GetTls().GetClientCaFile() == "" && c.GetGrpc().GetTls().GetClientCaFile() == "" {
		f.at([]any{"auth", "client_certificates"}, "client_certificates need client_ca_file in http.tls or grpc.tls: without it no client is asked for a certificate")
	}
}

// everyone says whether a network holds every address of IPv4 or of IPv6.
func everyone(text string) bool {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return false // A single address.
	}
	return p.Bits() == 0 || p.Addr().Is4In6() && p.Bits() <= 96
}
