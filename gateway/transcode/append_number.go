package transcode

import (
	"math"
	"strconv"
)

// appendNumber appends a number, a boolean or an enum's value, given as the wire has
// it. 64-bit integers are strings, for JavaScript's numbers cannot hold them.
func (f *field) appendNumber(dst []byte, u uint64) []byte {
	switch f.elem {
	case opBool:
		if u != 0 {
			return append(dst, "true"...)
		}
		return append(dst, "false"...)
	case opInt32:
		return appendInt(dst, int64(int32(u)))
	case opSint32:
		return appendInt(dst, int64(int32(unzigzag(u&math.MaxUint32))))
	case opSfixed32:
		return appendInt(dst, int64(int32(u)))
	case opUint32, opFixed32:
		return appendUint(dst, uint64(uint32(u)))
	case opInt64, opSfixed64:
		return append(appendInt(append(dst, '"'), int64(u)), '"')
	case opSint64:
		return append(appendInt(append(dst, '"'), unzigzag(u)), '"')
	case opUint64, opFixed64:
		return append(appendUint(append(dst, '"'), u), '"')
	case opFloat:
		return appendFloat(dst, float64(math.Float32frombits(uint32(u))), 32)
	case opDouble:
		return appendFloat(dst, math.Float64frombits(u), 64)
	case opEnum:
		if name := f.enum.name(int32(u)); name != nil {
			return append(dst, name...)
		}
		return appendInt(dst, int64(int32(u)))
	}
	return append(dst, "null"...)
}

func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

const pairs = "00010203040506070809101112131415161718192021222324252627282930313233343536373839" +
	"40414243444546474849505152535455565758596061626364656667686970717273747576777879" +
	"8081828384858687888990919293949596979899"

func appendInt(dst []byte, n int64) []byte {
	if n < 0 {
		return appendUint(append(dst, '-'), -uint64(n))
	}
	return appendUint(dst, uint64(n))
}

func appendUint(dst []byte, u uint64) []byte {
	if u < 10 {
		return append(dst, '0'+byte(u))
	}
	if u < 100 {
		return append(dst, pairs[2*u], pairs[2*u+1])
	}
	var buf [20]byte
	i := len(buf)
	for u >= 100 {
		p := u % 100
		u /= 100
		i -= 2
		buf[i], buf[i+1] = pairs[2*p], pairs[2*p+1]
	}
	if u >= 10 {
		i -= 2
		buf[i], buf[i+1] = pairs[2*u], pairs[2*u+1]
	} else {
		i--
		buf[i] = '0' + byte(u)
	}
	return append(dst, buf[i:]...)
}

// appendFloat writes what protojson does: the shortest digits that give the same
// number, with an exponent where encoding/json has one.
func appendFloat(dst []byte, n float64, bits int) []byte {
	if n > -1e15 && n < 1e15 {
		// Whole numbers are common, and their digits are those of the integer. Floats
		// of 32 bits are exact only below 2^24.
		if i := int64(n); float64(i) == n && (bits == 64 || (i > -1<<24 && i < 1<<24)) {
			if i == 0 && math.Signbit(n) {
				dst = append(dst, '-')
			}
			return appendInt(dst, i)
		}
	}
	switch {
	case n != n:
		return append(dst, `"NaN"`...)
	case n > math.MaxFloat64:
		return append(dst, `"Infinity"`...)
	case n < -math.MaxFloat64:
		return append(dst, `"-Infinity"`...)
	}
	format := byte('f')
	abs := math.Abs(n)
	if bits == 64 && (abs < 1e-6 || abs >= 1e21) || bits == 32 && (float32(abs) < 1e-6 || float32(abs) >= 1e21) {
		format = 'e' // Zero has been written already.
	}
	dst = strconv.AppendFloat(dst, n, format, -1, bits)
	if k := len(dst); format == 'e' && k >= 4 && dst[k-4] == 'e' && dst[k-3] == '-' && dst[k-2] == '0' {
		dst[k-2] = dst[k-1] // e-09 is e-9.
		dst = dst[:k-1]
	}
	return dst
}
