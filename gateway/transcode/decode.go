package transcode

import (
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Error is what is wrong with JSON that a plan has been given.
type Error struct {
	// Field is the path of the field in proto names, as in BadRequest details;
	// empty where the whole is no JSON value of the message.
	Field string
	// Offset is the position in bytes, Line and Column count from 1, in bytes.
	Offset, Line, Column int
	// Reason says what is wrong; it quotes nothing of what was sent but names.
	Reason string
}

func (e *Error) Error() string { return e.Reason }

// AppendWire appends the wire form of a message, given as JSON, to dst. Its error
// is an *Error; dst is then returned as it was. It keeps neither slice.
func (p *Plan) AppendWire(dst, data []byte) ([]byte, error) {
	msg := dynamicpb.NewMessage(p.md)
	if err := (protojson.UnmarshalOptions{RecursionLimit: 64}).Unmarshal(data, msg); err != nil {
		return dst, &Error{Reason: err.Error()}
	}
	return proto.MarshalOptions{}.MarshalAppend(dst, msg)
}
