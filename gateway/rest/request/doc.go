// Package request builds the request message of a REST call, as wire bytes, from what
// google.api.http says of a binding: the body's JSON, the variables of the path and the
// parameters of the query. Nothing here knows net/http, generated code or who calls.
//
// A Program is compiled at start and then only appends: body ++ path ++ query. Parsers
// merge what is concatenated, which is right for scalars (zeros are written), messages,
// lists and maps. Where it would be wrong, the parts are compared here: a field or a
// member of a oneof that two parts give, at any depth; a message in the path that the
// body has, too; a mask that is given and one that is made of the body; required fields,
// which any part may give.
//
// Values are read by gateway/transcode, those of path and query as those of bodies are:
// there is one reader of the JSON mapping. Errors name the field as the client wrote it
// in path and query, by its proto name in a body, with line and column there, and all of
// them are told, not only the first. gateway/rest hands the parts in, and sends the bytes
// through gateway/upstream.
package request
