package transcode

// readTime reads the seconds and nanos of a Timestamp or Duration over what is there.
func readTime(b []byte, m *message, secs, nanos *int64) error {
	for len(b) > 0 {
		num, wt, n := readTag(b)
		if n == 0 {
			return errWire
		}
		b = b[n:]
		if num > 2 || wt != varintType {
			if n = skip(b, num, wt); n == 0 {
				return errWire
			}
			b = b[n:]
			continue
		}
		u, n := readVarint(b)
		if n == 0 {
			return errWire
		}
		b = b[n:]
		if num == 1 {
			*secs = int64(u)
		} else {
			*nanos = int64(int32(u))
		}
	}
	return nil
}

// Ranges of timestamp.proto and duration.proto.
const (
	leastSeconds = -62135596800
	mostSeconds  = 253402300799
	mostDuration = 315576000000
	mostNanos    = 999999999
)

func appendTime(dst []byte, sh form, secs, nanos int64) ([]byte, error) {
	if sh == timestampForm {
		if secs < leastSeconds || secs > mostSeconds || nanos < 0 || nanos > mostNanos {
			return dst, errTimestamp
		}
		dst = appendTimestamp(dst, secs)
		dst = appendFraction(dst, uint64(nanos))
		return append(dst, 'Z', '"'), nil
	}
	if secs < -mostDuration || secs > mostDuration || nanos < -mostNanos || nanos > mostNanos ||
		secs > 0 && nanos < 0 || secs < 0 && nanos > 0 {
		return dst, errDuration
	}
	dst = append(dst, '"')
	if secs < 0 || nanos < 0 {
		dst = append(dst, '-')
		secs, nanos = -secs, -nanos
	}
	dst = appendUint(dst, uint64(secs))
	dst = appendFraction(dst, uint64(nanos))
	return append(dst, 's', '"'), nil
}

// appendTimestamp appends date and time, behind a quote. The date is computed as in
// Howard Hinnant's civil_from_days, which counts years from March.
func appendTimestamp(dst []byte, secs int64) []byte {
	const day = 86400
	t := uint64(secs + 719468*day) // from 0000-03-01 on, so never negative
	days, rest := t/day, t%day
	era := days / 146097
	doe := days % 146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d := doy - (153*mp+2)/5 + 1
	y, month := yoe+era*400, mp+3
	if month > 12 {
		month -= 12
		y++
	}
	buf := [20]byte{0: '"', 5: '-', 8: '-', 11: 'T', 14: ':', 17: ':'}
	putPair(buf[1:3], y/100)
	putPair(buf[3:5], y%100)
	putPair(buf[6:8], month)
	putPair(buf[9:11], d)
	putPair(buf[12:14], rest/3600)
	putPair(buf[15:17], rest/60%60)
	putPair(buf[18:20], rest%60)
	return append(dst, buf[:]...)
}

// putPair writes a number below 100 as two digits.
func putPair(to []byte, n uint64) {
	to[0], to[1] = pairs[2*n], pairs[2*n+1]
}

// appendFraction appends nanoseconds as a point and 3, 6 or 9 digits; none for 0.
func appendFraction(dst []byte, nanos uint64) []byte {
	if nanos == 0 {
		return dst
	}
	digits := 9
	for range 2 {
		if nanos%1000 == 0 {
			nanos /= 1000
			digits -= 3
		}
	}
	var buf [10]byte
	buf[0] = '.'
	for i := digits; i > 0; i-- {
		buf[i] = '0' + byte(nanos%10)
		nanos /= 10
	}
	return append(dst, buf[:digits+1]...)
}
