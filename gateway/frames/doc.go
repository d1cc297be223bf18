// Package frames follows the frames of an HTTP/2 connection (RFC 9113), and bounds
// what a client may send that asks for work and has no use: floods of SETTINGS,
// PING and the like, calls that are reset before they are answered, and a frame or
// a header block that is begun and never finished. net/http and grpc-go leave these
// open, see docs/limits.md.
//
// gateway/listen guards the connections of the HTTP edge with it, gateway/rpc those
// of the gRPC edge. Both feed it what they read and write behind TLS.
package frames
