package redis

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/gateway/limit"
)

// source decides over all budgets of a call. It takes its time from Redis, so
// that the clocks of several gateways need not agree.
//
//go:embed take.lua
var source string

// fields of an ask in ARGV, and of an answer in the reply.
const fields = 4

// command writes asks as the script wants them.
func (s *Store) command(asks []limit.Ask) (keys, args []string) {
	keys = make([]string, len(asks))
	args = make([]string, 0, fields*len(asks))
	for i := range asks {
		a := &asks[i]
		keys[i] = key(s.prefix, a)
		args = append(args,
			strconv.FormatInt(a.Cost, 10),
			strconv.FormatInt(a.Size, 10),
			strconv.FormatInt(max(int64(a.Emission), 1), 10),
			strconv.Itoa(int(a.Period)))
	}
	return keys, args
}

// parse reads the script's reply into answers.
func parse(reply rueidis.RedisResult, answers []limit.Answer) (admitted bool, err error) {
	n, err := reply.AsIntSlice()
	if err != nil {
		return false, err
	}
	if len(n) != 1+fields*len(answers) {
		return false, fmt.Errorf("a reply of %d numbers to %d asks", len(n), len(answers))
	}
	for i := range answers {
		a := n[1+fields*i:]
		answers[i] = limit.Answer{OK: a[0] == 1, Remaining: a[1], Reset: time.Duration(a[2]), Retry: time.Duration(a[3])}
	}
	return n[0] == 1, nil
}

// kinds are the parts of keys that keep the values of rates and of quotas apart,
// should a limit change from one to the other.
var kinds = [...]string{limit.NoPeriod: "rate:", limit.Day: "day:", limit.Month: "month:"}

// longest is how many bytes of a name stand in a key as they are.
const longest = 128

// key names a budget in Redis: readable, of bounded length, and different for
// different budgets whatever callers put into their names.
func key(prefix string, a *limit.Ask) string {
	b := make([]byte, 0, len(prefix)+len(a.Key.Limit)+len(a.Key.Who)+16)
	b = append(b, prefix...)
	b = append(b, kinds[a.Period]...)
	b = appendName(b, a.Key.Limit)
	b = append(b, ':')
	b = appendName(b, a.Key.Who)
	return string(b)
}

// appendName escapes what does not print, and what separates names. A long name
// is hashed behind a mark that escaping never makes.
func appendName(b []byte, name string) []byte {
	if len(name) > longest {
		sum := sha256.Sum256([]byte(name))
		return hex.AppendEncode(append(b, "%sha256:"...), sum[:])
	}
	const digits = "0123456789ABCDEF"
	for i := range len(name) {
		c := name[i]
		if c <= ' ' || c >= 0x7f || c == '%' || c == ':' {
			b = append(b, '%', digits[c>>4], digits[c&15])
			continue
		}
		b = append(b, c)
	}
	return b
}
