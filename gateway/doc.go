// Package gateway puts the gateway together: configuration and options in, a
// running [Gateway] out.
//
// chain.go holds every ordered list of the request path. options.go is how a
// team adds services, checks and middlewares of its own in a main of its own
// (see the example). gateway/shop registers the shop; gateway/cmd/sluice is the
// program.
package gateway
