package main

import (
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// sink takes spans over OTLP and counts them, so that tracing is really on in
// what is measured.
type sink struct {
	server *http.Server
	url    string
	spans  atomic.Int64
}

func newSink(ctx context.Context) (*sink, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{url: "http://" + l.Addr().String()}
	s.server = &http.Server{Handler: http.HandlerFunc(s.take), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.server.Serve(l) }() // until close
	return s, nil
}

func (s *sink) close() error { return s.server.Close() }

func (s *sink) take(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = z
	}
	var request collectorv1.ExportTraceServiceRequest
	b, err := io.ReadAll(io.LimitReader(body, 64<<20))
	if err == nil {
		err = proto.Unmarshal(b, &request)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, r := range request.GetResourceSpans() {
		for _, sc := range r.GetScopeSpans() {
			s.spans.Add(int64(len(sc.GetSpans())))
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf") // An empty answer: all were taken.
}

// tracing are the variables that make the gateway trace one request in a hundred
// to the sink.
func (s *sink) tracing() []string {
	return []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + s.url, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.01",
	}
}
