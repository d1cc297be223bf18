package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"

	"github.com/sluice-gateway/sluice/gateway/admin"
	"github.com/sluice-gateway/sluice/gateway/clientaddr"
	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/listen"
	"github.com/sluice-gateway/sluice/gateway/tlsfile"
)

// tls reads the certificates of the listeners, and watches them.
func (g *Gateway) tls() error {
	if g.o.explain != nil { // Nothing listens.
		return nil
	}
	for _, l := range []struct {
		to   **tlsfile.ServerTLS
		name string
		c    *configv1.ServerTls
	}{{&g.httpTLS, "http", g.cfg.GetHttp().GetTls()}, {&g.grpcTLS, "grpc", g.cfg.GetGrpc().GetTls()}} {
		if l.c == nil {
			continue
		}
		o := tlsfile.ServerOptions{
			CertFile: l.c.GetCertFile(), KeyFile: l.c.GetKeyFile(), ClientCAFile: l.c.GetClientCaFile(), RequireClientCert: l.c.GetRequireClientCert(),
			Refresh: g.o.tlsRefresh, Log: g.log, Metrics: g.metrics.Registry(), Name: l.name,
		}
		if l.c.GetMinVersion() == "1.3" {
			o.MinVersion = tls.VersionTLS13
		}
		s, err := tlsfile.Server(o)
		if err != nil {
			return fmt.Errorf("%s.tls: %w", l.name, err)
		}
		g.onClose(s.Close)
		*l.to = s
	}
	return nil
}

// clientResolver knows whose word is taken for a caller's address.
func (s *snapshot) clientResolver() *clientaddr.Resolver {
	c := s.cfg.GetClientAddress()
	o := clientaddr.Options{Trusted: prefixes(c.GetTrustedProxies())}
	switch c.GetHeader() {
	case "forwarded":
		o.Header = clientaddr.Forwarded
	case "none":
		o.Header = clientaddr.None
	}
	o.Untrusted = clientaddr.Sparsely(time.Minute, func() {
		s.log.Warn("a request names a client address, but comes from no trusted proxy: its own address counts; if it is your proxy's, name it under client_address.trusted_proxies")
	})
	return clientaddr.New(o)
}

// prefixes reads addresses and networks; the configuration has checked them.
func prefixes(from []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range from {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p)
		} else if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}

func (s *snapshot) corsOptions() *httpedge.CORSOptions {
	c := s.cfg.GetHttp().GetCors()
	if c == nil {
		return nil
	}
	o := &httpedge.CORSOptions{AllowedOrigins: c.GetAllowedOrigins(), AllowCredentials: c.GetAllowCredentials(), AllowedHeaders: c.GetAllowedHeaders(), MaxAge: c.GetMaxAge().AsDuration()}
	if h := s.cfg.GetAuth().GetApiKeys().GetHeader(); h != "" { // X-API-Key is among them by itself.
		o.AllowedHeaders = append(slices.Clone(o.AllowedHeaders), h)
	}
	if o.MaxAge == 0 && c.GetMaxAge() != nil { // Said so: not at all.
		o.MaxAge = -1
	}
	return o
}

type listeners struct{ http, grpc, admin *listen.Listener }

// listen opens the three listeners, or none.
func (g *Gateway) listen(ctx context.Context) (ls listeners, err error) {
	h, r := g.cfg.GetHttp(), g.cfg.GetGrpc()
	var proxies []netip.Prefix
	if c := g.cfg.GetClientAddress(); c.GetProxyProtocol() {
		proxies = prefixes(c.GetTrustedProxies())
	}
	for _, l := range []struct {
		to        **listen.Listener
		at        *string
		name, env string
		o         listen.Options
	}{
		{&ls.http, &g.addrs.HTTP, "http.addr", "SLUICE_HTTP_ADDR", listen.Options{Addr: h.GetAddr(),
			MaxConns: int(h.GetMaxConnections()), MaxConnsPerAddress: int(h.GetMaxConnectionsPerAddress()), ProxyTrusted: proxies}},
		{&ls.grpc, &g.addrs.GRPC, "grpc.addr", "SLUICE_GRPC_ADDR", listen.Options{Addr: r.GetAddr(),
			MaxConns: int(r.GetMaxConnections()), MaxConnsPerAddress: int(r.GetMaxConnectionsPerAddress()), ProxyTrusted: proxies}},
		{&ls.admin, &g.addrs.Admin, "admin.addr", "SLUICE_ADMIN_ADDR", listen.Options{Addr: g.cfg.GetAdmin().GetAddr()}},
	} {
		l.o.Refused, l.o.Log = g.metrics.Refused, g.log
		socket, err := g.o.socket(ctx, strings.TrimSuffix(l.name, ".addr"), l.o.Addr)
		if err != nil {
			for _, open := range []*listen.Listener{ls.http, ls.grpc} {
				if open != nil {
					err = errors.Join(err, open.Close())
				}
			}
			return ls, fmt.Errorf("%s (%s): %w", l.name, l.env, err)
		}
		*l.to = listen.Wrap(socket, l.o)
		*l.at = (*l.to).Addr().String()
	}
	if !admin.Loopback(g.addrs.Admin) {
		g.log.Warn("the admin listener has no authentication, and is not on loopback: let only operators and probes reach it", "addr", g.addrs.Admin)
	}
	return ls, nil
}
