// Temporary: keeps go.mod whole while packages are being written.
package sluice

import (
	_ "buf.build/go/protovalidate"
	_ "buf.build/go/protoyaml"
	_ "github.com/MicahParks/keyfunc/v3"
	_ "github.com/fullstorydev/grpchan/inprocgrpc"
	_ "github.com/fullstorydev/grpcurl"
	_ "github.com/golang-jwt/jwt/v5"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/google/uuid"
	_ "github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/maypok86/otter/v2"
	_ "github.com/pressly/goose/v3"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/swaggest/swgui/v5emb"
	_ "go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	_ "go.opentelemetry.io/otel/sdk/trace"
	_ "go.uber.org/goleak"
	_ "golang.org/x/image/webp"
	_ "golang.org/x/sync/errgroup"
	_ "google.golang.org/grpc"
	_ "google.golang.org/grpc/reflection"
	_ "modernc.org/sqlite"
)
