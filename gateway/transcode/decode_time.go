package transcode

import (
	"bytes"
	"strconv"
	"time"
)

// What google.protobuf.Timestamp and Duration may hold.
const (
	minTimestamp = -62135596800 // 0001-01-01T00:00:00Z
	maxTimestamp = 253402300799 // 9999-12-31T23:59:59Z
	maxDuration  = 315576000000
)

const (
	wantedTimestamp = "an RFC 3339 time from year 1 to 9999, such as 2026-01-31T12:00:00Z"
	wantedDuration  = "a number of seconds with an s behind it, such as 1.5s, up to 315576000000s"
)

// timestamp reads a google.protobuf.Timestamp.
func (d *reader) timestamp() bool {
	s, at, ok := d.string(wantedTimestamp)
	if !ok {
		return false
	}
	seconds, nanos, ok := readTimestamp(s)
	if !ok {
		seconds, nanos, ok = parseTimestamp(s)
	}
	if !ok || seconds < minTimestamp || seconds > maxTimestamp {
		return d.fail(at, "must be "+wantedTimestamp)
	}
	d.secondsAndNanos(seconds, nanos)
	return true
}

// parseTimestamp reads a time as protojson does, by package time, whose idea of
// RFC 3339 is wider than the letter: an hour of one digit, a comma for the point.
func parseTimestamp(s []byte) (seconds int64, nanos int32, ok bool) {
	t, err := time.Parse(time.RFC3339Nano, string(s))
	if err != nil {
		return 0, 0, false
	}
	point, zone := bytes.LastIndexByte(s, '.'), bytes.LastIndexAny(s, "Z-+")
	if point >= 0 && zone-point > len(".999999999") {
		return 0, 0, false
	}
	return t.Unix(), int32(t.Nanosecond()), true
}

// readTimestamp reads a time to the letter of RFC 3339, without allocating. What it
// does not take may be a time all the same.
func readTimestamp(s []byte) (seconds int64, nanos int32, ok bool) {
	const layout = "0000-00-00T00:00:00"
	if len(s) <= len(layout) {
		return 0, 0, false
	}
	for i, c := range []byte(layout) {
		if c == '0' && !isDigit(s[i]) || c != '0' && c != s[i] {
			return 0, 0, false
		}
	}
	year, month, day := twoDigits(s)*100+twoDigits(s[2:]), twoDigits(s[5:]), twoDigits(s[8:])
	hour, minute, second := twoDigits(s[11:]), twoDigits(s[14:]), twoDigits(s[17:])
	if month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 {
		return 0, 0, false
	}
	rest := s[len(layout):]
	if rest[0] == '.' {
		n := skipDigits(rest, 1)
		if n == 1 || n > len(".999999999") {
			return 0, 0, false
		}
		nanos, rest = nanosOf(rest[1:n]), rest[n:]
	}
	offset, ok := zoneOffset(rest)
	return daysBefore(year, month, day)*86400 + hour*3600 + minute*60 + second - offset, nanos, ok
}

func twoDigits(s []byte) int64 { return int64(s[0]-'0')*10 + int64(s[1]-'0') }

// nanosOf reads up to nine digits behind a point, as nanoseconds.
func nanosOf(digits []byte) (nanos int32) {
	for i := range 9 {
		nanos *= 10
		if i < len(digits) {
			nanos += int32(digits[i] - '0')
		}
	}
	return nanos
}

// zoneOffset reads Z or ±hh:mm, in seconds.
func zoneOffset(s []byte) (int64, bool) {
	if len(s) == 1 && s[0] == 'Z' {
		return 0, true
	}
	if len(s) != len("+00:00") || s[3] != ':' || !isDigit(s[1]) || !isDigit(s[2]) || !isDigit(s[4]) || !isDigit(s[5]) {
		return 0, false
	}
	hours, minutes := twoDigits(s[1:]), twoDigits(s[4:])
	if hours > 23 || minutes > 59 {
		return 0, false
	}
	switch offset := hours*3600 + minutes*60; s[0] {
	case '+':
		return offset, true
	case '-':
		return -offset, true
	}
	return 0, false
}

func daysIn(year, month int64) int64 {
	if month == 2 {
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 30 + (month+month/8)%2
}

// daysBefore counts the days from 1970 to a date of the Gregorian calendar, with
// years that begin in March, so that the leap day is their last.
func daysBefore(year, month, day int64) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	year += 400 // So that no division rounds up; the cycle is 146097 days long.
	return year*365 + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - 719468 - 146097
}

// duration reads a google.protobuf.Duration.
func (d *reader) duration() bool {
	s, at, ok := d.string(wantedDuration)
	if !ok {
		return false
	}
	seconds, nanos, ok := readDuration(s)
	if !ok || seconds > maxDuration || seconds < -maxDuration {
		return d.fail(at, "must be "+wantedDuration)
	}
	d.secondsAndNanos(seconds, nanos)
	return true
}

// readDuration reads seconds by the rules of protojson: a sign of either kind, and
// no digit is needed behind the point, nor in front of it.
func readDuration(s []byte) (seconds int64, nanos int32, ok bool) {
	if len(s) < 2 || s[len(s)-1] != 's' {
		return 0, 0, false
	}
	s = s[:len(s)-1]
	neg := s[0] == '-'
	if neg || s[0] == '+' {
		s = s[1:]
	}
	n := skipDigits(s, 0)
	if len(s) == 0 || (n > 1 && s[0] == '0') || (n == 0 && s[0] != '.') {
		return 0, 0, false
	}
	if n > 0 {
		var err error
		if seconds, err = strconv.ParseInt(string(s[:n]), 10, 64); err != nil {
			return 0, 0, false
		}
	}
	if s = s[n:]; len(s) > 0 {
		if s[0] != '.' || len(s) > len(".999999999") || skipDigits(s, 1) != len(s) {
			return 0, 0, false
		}
		nanos = nanosOf(s[1:])
	}
	if neg {
		return -seconds, -nanos, true
	}
	return seconds, nanos, true
}
