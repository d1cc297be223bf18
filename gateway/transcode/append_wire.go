package transcode

import (
	"encoding/binary"
	"errors"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// What can be wrong with wire bytes.
var (
	errWire     = errors.New("transcode: malformed protobuf")
	errDepth    = errors.New("transcode: messages nested too deeply")
	errUTF8     = errors.New("transcode: a string is not UTF-8")
	errRequired = errors.New("transcode: a required field is missing")
)

// errUnusual ends a streaming pass over what it cannot stream.
var errUnusual = errors.New("transcode: unusual order of fields")

// maxNesting of messages is protobuf-go's.
const maxNesting = protowire.DefaultRecursionLimit

// readTag returns a field's number and wire type, and how many bytes they take: 0 if
// they are malformed.
func readTag(b []byte) (num uint64, wt uint8, n int) {
	tag, n := readVarint(b)
	if num = tag >> 3; num == 0 || num > uint64(protowire.MaxValidNumber) {
		return 0, 0, 0
	}
	return num, uint8(tag & 7), n
}

// readVarint returns a varint and how many bytes it takes: 0 if it is malformed.
func readVarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	if len(b) > 1 && b[1] < 0x80 {
		return uint64(b[0]&0x7f) | uint64(b[1])<<7, 2
	}
	return readLongVarint(b)
}

func readLongVarint(b []byte) (uint64, int) {
	u, n := protowire.ConsumeVarint(b)
	return u, max(n, 0)
}

// readBytes returns what is behind a length, and how many bytes both take: 0 if they
// are malformed.
func readBytes(b []byte) ([]byte, int) {
	size, n := readVarint(b)
	if n == 0 || size > uint64(len(b)-n) {
		return nil, 0
	}
	end := n + int(size)
	return b[n:end], end
}

// readNumber returns a number of a wire type, and how many bytes it takes: 0 if it is
// malformed.
func readNumber(b []byte, wt uint8) (uint64, int) {
	switch wt {
	case varintType:
		return readVarint(b)
	case fixed64Type:
		if len(b) >= 8 {
			return binary.LittleEndian.Uint64(b), 8
		}
	case fixed32Type:
		if len(b) >= 4 {
			return uint64(binary.LittleEndian.Uint32(b)), 4
		}
	}
	return 0, 0
}

// skip returns how many bytes a value takes: 0 if it is malformed.
func skip(b []byte, num uint64, wt uint8) int {
	switch wt {
	case varintType, fixed64Type, fixed32Type:
		_, n := readNumber(b, wt)
		return n
	case bytesType:
		_, n := readBytes(b)
		return n
	}
	return max(protowire.ConsumeFieldValue(protowire.Number(num), protowire.Type(wt), b), 0)
}

// again returns the length of the field's tag if b begins with it, or else 0.
func (f *field) again(b []byte) int {
	switch {
	case f.tagLen == 1:
		if len(b) > 0 && b[0] == f.tag[0] {
			return 1
		}
		return 0
	case f.tagLen == 2:
		if len(b) > 1 && b[0] == f.tag[0] && b[1] == f.tag[1] {
			return 2
		}
		return 0
	}
	if n := int(f.tagLen); len(b) >= n && string(b[:n]) == string(f.tag[:n]) {
		return n
	}
	return 0
}

// room makes sure that n bytes more fit.
func room(dst []byte, n int) []byte {
	if cap(dst)-len(dst) < n {
		return slices.Grow(dst, n)
	}
	return dst
}
