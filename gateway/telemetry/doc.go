// Package telemetry is what operators see of the gateway: one access-log line
// and one count a request, spans over OTLP. Both edges begin a [Request] and
// end it; gateway/upstream reports its calls to [Metrics].
package telemetry
