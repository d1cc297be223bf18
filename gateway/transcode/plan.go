package transcode

import (
	"google.golang.org/protobuf/reflect/protoreflect"
)

// shape is how a message is written.
type form uint8

const (
	plainForm form = iota
	anyForm
	timestampForm
	durationForm
	fieldMaskForm
	wrapperForm
	structForm
	valueForm
	listForm
	messageSetForm // protojson refuses these, and so do we.
)

// shapes of the well-known types. Empty is as plain as any other message.
var forms = map[protoreflect.FullName]form{
	"google.protobuf.Any":         anyForm,
	"google.protobuf.Timestamp":   timestampForm,
	"google.protobuf.Duration":    durationForm,
	"google.protobuf.FieldMask":   fieldMaskForm,
	"google.protobuf.BoolValue":   wrapperForm,
	"google.protobuf.Int32Value":  wrapperForm,
	"google.protobuf.Int64Value":  wrapperForm,
	"google.protobuf.UInt32Value": wrapperForm,
	"google.protobuf.UInt64Value": wrapperForm,
	"google.protobuf.FloatValue":  wrapperForm,
	"google.protobuf.DoubleValue": wrapperForm,
	"google.protobuf.StringValue": wrapperForm,
	"google.protobuf.BytesValue":  wrapperForm,
	"google.protobuf.Struct":      structForm,
	"google.protobuf.Value":       valueForm,
	"google.protobuf.ListValue":   listForm,
}

// message is the plan of one type of message. It is never changed once compiled.
type message struct {
	form form
	// bare messages write the value of their only field, without its name.
	bare bool
	// required counts the required fields.
	required int
	// oneofs counts the oneofs that have a case, so not those of optional fields.
	oneofs int
	// fields in ascending number: the order of the wire, and of what is written.
	fields []field
	// dense finds fields by number, where numbers are small; sparse the others.
	dense  []*field
	sparse map[protoreflect.FieldNumber]*field
	// defaults are the defaults of all fields in a row; those of field i begin at
	// from[i], so that a run of absent fields is one copy.
	defaults []byte
	from     []int32
	// extensions are the numbers that extensions may have.
	extensions protoreflect.FieldRanges
	extended   *extended
	md         protoreflect.MessageDescriptor
}

// op is what to do with a field. Those up to opNull are numbers, which can be packed.
type op uint8

const (
	opBool op = iota
	opInt32
	opInt64
	opUint32
	opUint64
	opSint32
	opSint64
	opFixed32
	opFixed64
	opSfixed32
	opSfixed64
	opFloat
	opDouble
	opEnum
	opNull
	opString
	opBytes
	opMessage
	opGroup
	opNumbers // a list of numbers; field.elem says which
	opStrings
	opBytesList
	opMessages
	opGroups
	opMap
	opSkip // not written: there only because of the oneof it is in
)

// Wire types.
const (
	varintType  = 0
	fixed64Type = 1
	bytesType   = 2
	startGroup  = 3
	endGroup    = 4
	fixed32Type = 5
)

// keySize is how long a field's name may be, with its punctuation, to be copied as
// one array.
const keySize = 32

// field is the plan of a field. What the streaming pass reads comes first.
type field struct {
	key    [keySize]byte // `,"name":`
	keyLen uint8         // 0 where the key is in long, or there is none
	op     op
	elem   op    // of opNumbers, of maps' values and of opSkip
	wt     uint8 // the wire type that it is declared with
	alt    uint8 // the other one: lists of numbers may be packed or not
	// counted fields are required, or members of a oneof.
	counted bool
	tagLen  uint8
	tag     [5]byte
	index   int32  // in message.fields; len(fields) of an extension
	oneof   uint64 // a bit of the oneof; all from the 64th on share the last
	msg     *message
	enum    *enum
	long    []byte
	other   *field // the same with wt and alt swapped
	zero    []byte // the default of a scalar

	// roams is set for members of oneofs, which protobuf-go writes behind all other
	// fields, and others where their number belongs. They have no default and cannot be
	// there twice, so they are written where they come.
	roams    bool
	required bool
	utf8     bool // parsing refuses what is not UTF-8
	oneofs   int32
	num      protoreflect.FieldNumber
	fd       protoreflect.FieldDescriptor
}

// wireType of a single value.
func (o op) wireType() uint8 {
	switch o {
	case opFixed32, opSfixed32, opFloat:
		return fixed32Type
	case opFixed64, opSfixed64, opDouble:
		return fixed64Type
	case opString, opBytes, opMessage, opMap, opStrings, opBytesList, opMessages, opNumbers:
		return bytesType
	case opGroup, opGroups:
		return startGroup
	}
	return varintType
}

// find returns the field of a number, or nil.
func (m *message) find(num uint64) *field {
	if num < uint64(len(m.dense)) {
		return m.dense[num]
	}
	return m.sparse[protoreflect.FieldNumber(num)]
}

// enum has the names of an enum's numbers, in quotes.
type enum struct {
	dense  [][]byte // from 0 on; nil for what has no name
	sparse map[int32][]byte
}

func (e *enum) name(n int32) []byte {
	if uint32(n) < uint32(len(e.dense)) {
		return e.dense[n]
	}
	return e.sparse[n]
}
