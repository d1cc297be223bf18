// Package transcode turns protobuf wire bytes into JSON and JSON into wire bytes,
// without messages between them: a plan is compiled once, from a message's
// descriptor, and then reads the one and writes the other.
//
// The JSON is that of protojson (the ProtoJSON format) with EmitDefaultValues:
// unset messages are absent; unset scalars, lists and maps are present.
package transcode
