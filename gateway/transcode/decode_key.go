package transcode

import (
	"bytes"
	"hash/maphash"
	"math"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// keyNumber reads the key of a map whose keys are no strings, by the rules of
// protojson: no fractions, no exponents, but zeros and a plus in front.
func keyNumber(kind protoreflect.Kind, s []byte) (uint64, bool) {
	switch kind {
	case protoreflect.BoolKind:
		switch string(s) {
		case "true":
			return 1, true
		case "false":
			return 0, true
		}
		return 0, false
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		v, err := strconv.ParseInt(string(s), 10, 32)
		if kind == protoreflect.Sint32Kind {
			return uint64(v<<1) ^ uint64(v>>63), err == nil
		}
		return uint64(v), err == nil
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		v, err := strconv.ParseInt(string(s), 10, 64)
		if kind == protoreflect.Sint64Kind {
			return uint64(v<<1) ^ uint64(v>>63), err == nil
		}
		return uint64(v), err == nil
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		v, err := strconv.ParseUint(string(s), 10, 32)
		return v, err == nil
	default: // Uint64Kind, Fixed64Kind
		v, err := strconv.ParseUint(string(s), 10, 64)
		return v, err == nil
	}
}

func keyWanted(kind protoreflect.Kind) string {
	switch kind {
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return "integers from -2147483648 to 2147483647"
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return "integers from -9223372036854775808 to 9223372036854775807"
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return "integers from 0 to 4294967295"
	default:
		return "integers from 0 to " + strconv.FormatUint(math.MaxUint64, 10)
	}
}

// keyName is the key of a map, the string at a place, as paths of errors have it.
func (d *reader) keyName(at int, f *decodeField) string {
	err, joint, pos := d.err, d.joint, d.pos
	d.pos = at
	key, _ := d.text() // It has been read before.
	d.err, d.joint, d.pos = err, joint, pos
	name := shown(key)
	if f.kind == protoreflect.StringKind {
		name = strconv.Quote(name)
	}
	return "[" + name + "]"
}

// keyStack holds the keys of the maps that are being read, the innermost on top,
// so that none comes twice. The few keys of a small map are compared one by one;
// a large one has a hash table, seeded, so that nobody can choose keys that
// collide.
type keyStack struct {
	keys  []keySpan
	slots []int32 // hash tables, of 1 + the number of a key of their map
}

// keySpan is where in the output a key stands, with its tag.
type keySpan struct {
	from, to int
	hash     uint64
}

// keyFrame is the part of the stack that is one map's.
type keyFrame struct{ keys, slots int }

const smallMap = 8

func (k *keyStack) push() keyFrame { return keyFrame{len(k.keys), len(k.slots)} }

func (k *keyStack) pop(f keyFrame) {
	k.keys, k.slots = k.keys[:f.keys], k.slots[:f.slots]
}

func (k *keyStack) reset() { k.pop(keyFrame{}) }

func (k *keyStack) release() {
	if cap(k.keys) > maxKept/24 {
		k.keys = nil
	}
	if cap(k.slots) > maxKept/4 {
		k.slots = nil
	}
}

// add notes the key that is at the end of the output, from a place on; fresh is
// false where the map has it already. The frame must be the one on top.
func (k *keyStack) add(f keyFrame, out []byte, from int, seed maphash.Seed) (index int, fresh bool) {
	key := keySpan{from: from, to: len(out)}
	mine := k.keys[f.keys:]
	if len(mine) < smallMap {
		for _, had := range mine {
			if bytes.Equal(out[had.from:had.to], out[from:]) {
				return 0, false
			}
		}
		k.keys = append(k.keys, key)
		return len(k.keys) - 1, true
	}
	if table := k.slots[f.slots:]; len(mine)*2 >= len(table) {
		k.grow(f, out, seed)
	}
	key.hash = maphash.Bytes(seed, out[from:])
	table := k.slots[f.slots:]
	slot := k.find(table, mine, key.hash, out, out[from:])
	if table[slot] != 0 {
		return 0, false
	}
	k.keys = append(k.keys, key)
	table[slot] = int32(len(k.keys) - f.keys)
	return len(k.keys) - 1, true
}

// find returns the slot of a key, or the free one that it would take.
func (k *keyStack) find(table []int32, mine []keySpan, hash uint64, out, key []byte) int {
	mask := len(table) - 1
	slot := int(hash) & mask
	for ; table[slot] != 0; slot = (slot + 1) & mask {
		if had := mine[table[slot]-1]; had.hash == hash && bytes.Equal(out[had.from:had.to], key) {
			break
		}
	}
	return slot
}

// grow makes a table that is at most a quarter full.
func (k *keyStack) grow(f keyFrame, out []byte, seed maphash.Seed) {
	mine := k.keys[f.keys:]
	size := max(4*smallMap, 2*(len(k.slots)-f.slots))
	k.slots = k.slots[:f.slots]
	for range size {
		k.slots = append(k.slots, 0)
	}
	table := k.slots[f.slots:]
	for i := range mine {
		m := &mine[i]
		m.hash = maphash.Bytes(seed, out[m.from:m.to])
		slot := int(m.hash) & (size - 1)
		for table[slot] != 0 {
			slot = (slot + 1) & (size - 1)
		}
		table[slot] = int32(i + 1)
	}
}

// move notes that a key has moved in the output.
func (k *keyStack) move(index, by int) {
	k.keys[index].from += by
	k.keys[index].to += by
}
