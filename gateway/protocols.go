package gateway

import (
	"fmt"
	"net/http"

	"github.com/klauspost/compress/gzhttp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/gateway/httpedge"
	"github.com/sluice-gateway/sluice/gateway/policy"
	"github.com/sluice-gateway/sluice/gateway/portal"
	"github.com/sluice-gateway/sluice/gateway/rest"
	"github.com/sluice-gateway/sluice/gateway/telemetry"
)

// buildHTTP builds the HTTP edge: the protocols in the order in which they are asked.
func (s *snapshot) buildHTTP(t *telemetry.Telemetry, arrival, edge policy.Chain) error {
	c := s.cfg.GetHttp()
	packs, err := httpedge.NewCompressor(httpedge.CompressionOptions{Off: c.GetCompression().GetOff(), MinBytes: int(c.GetCompression().GetMinBytes())})
	if err != nil {
		return err
	}
	o := rest.Options{Catalogue: s.catalogue, Conn: s.upstream, Telemetry: t, Logger: s.log, MaxJSONDepth: int(c.GetMaxJsonDepth()),
		Compressor: packs, APIKeyHeader: s.cfg.GetAuth().GetApiKeys().GetHeader()}
	for _, svc := range s.o.services {
		o.Services = append(o.Services, rest.Service{Name: string(svc.Descriptor.FullName()), Register: svc.Handlers})
	}
	if s.rest, err = rest.New(o); err != nil {
		return err
	}
	pages, err := s.pages(packs == nil)
	if err != nil {
		return err
	}
	var mounts httpedge.Mounts
	if pages != nil {
		mounts = httpedge.Mounts{{Path: portal.DocsPath, Handler: pages}, {Path: portal.DocsPath + "/", Handler: pages}, {Path: portal.DocumentPath, Handler: pages}}
	}
	if err := s.checkHealthPath(c.GetHealthPath(), mounts); err != nil {
		return err
	}
	s.http, err = httpedge.New(httpedge.Options{
		Protocols: s.protocols(mounts), Methods: s.rest.Verbs(), ExposedHeaders: s.rest.PassedHeaders(),
		Arrival: arrival, Edge: edge, Client: s.client.Client, Telemetry: t,
		Denied: s.metrics.Denied, Refused: s.metrics.Refused,
		Logger: s.log, Middlewares: s.o.http,
		ReadTimeout: c.GetReadTimeout().AsDuration(), MaxHeaders: int(c.GetMaxHeaders()), MaxQueryParameters: int(c.GetMaxQueryParameters()),
		MaxConnectionAge: c.GetMaxConnectionAge().AsDuration(), HSTSMaxAge: c.GetHstsMaxAge().AsDuration(), CORS: s.corsOptions(),
		Health:       httpedge.Health{Path: c.GetHealthPath(), Ready: s.gateway.drain.ready},
		APIKeyHeader: o.APIKeyHeader, Closing: s.gateway.drain.closing,
	})
	return err
}

// protocols are those of the HTTP edge, by precedence: plain routes that name a host come
// before all else, other plain routes after the paths of RPCs.
func (s *snapshot) protocols(mounts httpedge.Mounts) []httpedge.Protocol {
	if s.proxy == nil {
		return []httpedge.Protocol{mounts, s.rest}
	}
	return []httpedge.Protocol{s.proxy.Hosted(), mounts, s.rest, s.proxy.Others()}
}

// checkHealthPath refuses a health path by which a request could have meant something else.
func (s *snapshot) checkHealthPath(path string, mounts httpedge.Mounts) error {
	if path == "" {
		return nil
	}
	if m, ok := mounts.Find(path); ok {
		return fmt.Errorf("http.health_path %s: %s is there", path, m.Path)
	}
	if name, ok := s.rest.Meant(path); ok {
		return fmt.Errorf("http.health_path %s: the route %s takes it", path, name)
	}
	if s.proxy != nil {
		if name, ok := s.proxy.Meant(path); ok {
			return fmt.Errorf("http.health_path %s: the plain HTTP route %s is meant by it", path, name)
		}
	}
	return nil
}

// pages are the docs; nil without a document.
func (s *snapshot) pages(plain bool) (http.Handler, error) {
	if s.o.document == nil {
		return nil, nil
	}
	return part(s, "docs", []any{plain}, func(prometheus.Registerer) (http.Handler, func() error, error) {
		docs, err := portal.New(portal.Options{Title: s.o.title, Document: s.o.document})
		if err != nil {
			return nil, nil, err
		}
		if plain {
			return docs, nil, nil
		}
		return gzhttp.GzipHandler(docs), nil, nil // Pages and scripts compress to a quarter.
	})
}
