// Package kit is what the shop's services share at their gRPC edge: who calls
// (assertion.go), the interceptors every call passes (interceptors.go), the
// vocabulary of their errors (errors.go), page tokens, etags and update masks.
//
// Its neighbours: kit/database opens SQLite or PostgreSQL, kit/idempotency makes
// creation repeatable, kit/dbtest and kit/kittest serve tests. The services
// themselves are in services/user, services/order and services/profile. Nothing
// here may import gateway or aggregator: a service must run without them.
package kit

import (
	"context"

	"google.golang.org/grpc"
)

// Service is one opened service, ready to be registered on a grpc.Server or on
// an in-process channel. Its functions are safe for concurrent use.
type Service struct {
	// Name is the full gRPC service name, such as "shop.user.v1.UserService". It
	// is also the audience an assertion for the service must name.
	Name string
	// Register registers the service. Its methods expect the interceptors of this
	// package in front of them: without, every caller is anonymous.
	Register func(grpc.ServiceRegistrar)
	// Seed writes the demo data, once: what users change or delete afterwards
	// stays changed.
	Seed func(context.Context) error
	// Check says whether the service's database can be reached.
	Check func(context.Context) error
	// Drain ends what would otherwise run on for long (watch streams), with
	// UNAVAILABLE, so that a graceful stop can finish. Close implies it.
	Drain func()
	// Close ends the background work and closes the database.
	Close func() error
}
