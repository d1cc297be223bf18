package transcode

import (
	"fmt"
	"testing"
	"time"
)

// TestReadTimestampEveryDay holds the calendar of readTimestamp against package
// time's: every day of years of each kind, and days that no month has.
func TestReadTimestampEveryDay(t *testing.T) {
	for _, year := range []int{1, 4, 100, 399, 400, 1582, 1600, 1900, 1969, 1970, 1971, 1972, 2000, 2023, 2024, 2100, 9999} {
		for month := range 14 {
			for day := range 33 {
				s := fmt.Sprintf("%04d-%02d-%02dT12:34:56.5-01:30", year, month, day)
				want, err := time.Parse(time.RFC3339Nano, s)
				seconds, nanos, ok := readTimestamp([]byte(s))
				if ok != (err == nil) || ok && (seconds != want.Unix() || int(nanos) != want.Nanosecond()) {
					t.Fatalf("%s: %d, %d, %v; time: %v, %v", s, seconds, nanos, ok, want.Unix(), err)
				}
			}
		}
	}
}
