// Package gatewaytest runs whole gateways in tests: real listeners on free
// ports, real clients on both edges, services in the process or behind TCP,
// and a test service (sluice.test.v1) with what the shop lacks.
package gatewaytest
