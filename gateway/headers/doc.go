// Package headers changes headers by rules of the configuration: values by
// template, set, added and taken away. gateway/upstream applies it to the metadata
// that services get and to the answers of RPCs, gateway/proxy to the requests and
// answers of plain HTTP routes.
//
// Rules are compiled at start: what cannot be sent, and names that HTTP, gRPC or
// the gateway need for themselves, are refused there. What a template makes of a
// request is checked when it is applied: a caller cannot end a header's line, or
// begin another.
package headers
