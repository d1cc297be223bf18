// Package listen makes the listeners that gateway/rest and gateway/rpc serve
// on: it bounds the connections there are, in all and of one address, and takes
// the client's address from the PROXY protocol where proxies in front of the
// gateway speak it.
//
// HTTP adds what net/http does not do: it looks at heads and frames as they are
// read. TLS goes around what Listen returns: a connection
// that is one too many costs no handshake, and the PROXY header comes first
// (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt).
package listen
