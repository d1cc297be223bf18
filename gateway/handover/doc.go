// Package handover passes the listening sockets on: from systemd to the process
// that it starts (socket activation), and from each process to the one that
// replaces it (upgrade in place). It also tells systemd what the process does
// (sd_notify(3)).
//
// Its neighbours: cmd/sluice, which owns a Process and its signals; package
// gateway, which listens by Process.Listen (gateway.WithSockets) and drains;
// gateway/listen, which bounds the connections of what is handed over. A program
// that embeds the gateway needs none of this.
//
// Replacing is cloudflare/tableflip's work: why is in
// docs/decisions/0026-lifecycle.md.
package handover
