// Package tlsfile keeps TLS settings whose certificates stand in PEM files,
// and reads the files again when they change: a certificate is renewed, or an
// authority removed, without a restart.
//
// [Server] is for listeners (gateway/rest, gateway/rpc), [Client] for services
// in other processes (gateway/upstream). Both look at the content of the files
// every few seconds, so that renaming, rewriting and the symbolic links of
// Kubernetes volumes all work. All files of one side change together or not at
// all: a set that cannot be used is logged and counted, and the last good one
// stays. New handshakes use the new files; connections that are open stay as
// they were made.
//
// Why not grpc-go's pemfile: docs/decisions/0011-listeners.md.
package tlsfile
