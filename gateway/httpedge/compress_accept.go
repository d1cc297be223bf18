package httpedge

import "strings"

// Coding is a content coding that answers can have.
type Coding uint8

// In the order of preference among equals: zstd is smaller and takes less CPU.
const (
	CodingIdentity Coding = iota
	CodingGzip
	CodingZstd
	Codings
)

// maxAcceptEncoding bounds what is read of Accept-Encoding, in bytes. Callers
// send a tenth of it; a longer one is taken for malformed.
const maxAcceptEncoding = 1 << 10

// unsaid is the weight of what a list does not name.
const unsaid = -1

// negotiate chooses the coding of an answer by the lines of Accept-Encoding (RFC
// 9110, 12.5.3), and says whether the answer may be sent as it is, too. Without
// the header, with a malformed or overlong one, and where nothing we have is
// acceptable, it is identity: that is what the RFC asks for.
func negotiate(lines []string) (best Coding, identity bool) {
	weights := [Codings]int{unsaid, unsaid, unsaid}
	star := unsaid
	size := 0
	for _, line := range lines {
		if size += len(line) + 1; size > maxAcceptEncoding || !weigh(line, &weights, &star) {
			return CodingIdentity, true
		}
	}
	rank := 0
	for k := CodingGzip; k < Codings; k++ {
		r := 2 * weights[k]
		if weights[k] == unsaid {
			r = 2*star - 1 // What is named goes before what * stands for.
			if k != CodingGzip {
				r-- // And of that what everyone knows.
			}
		}
		if r > 0 && r >= rank {
			best, rank = k, r
		}
	}
	own := 2 * weights[CodingIdentity]
	if own < 0 {
		own = 2*star - 3 // Acceptable, and least of all, unless * says no.
	}
	if best == CodingIdentity || own > rank {
		return CodingIdentity, true
	}
	return best, own > 0 || weights[CodingIdentity] == unsaid && star != 0
}

// weigh reads one line into the weights, in thousandths. What is named twice has
// the lower one. It returns false where the line is malformed.
func weigh(line string, weights *[Codings]int, star *int) bool {
	for line != "" {
		var member string
		member, line, _ = strings.Cut(line, ",")
		if member = trimOWS(member); member == "" {
			continue // RFC 9110, 5.6.1.2
		}
		name, weight, weighted := strings.Cut(member, ";")
		if name = trimOWS(name); !isToken(name) {
			return false
		}
		q := 1000
		if weighted {
			if q = parseWeight(trimOWS(weight)); q < 0 {
				return false
			}
		}
		at := star
		switch {
		case name == "*":
		case strings.EqualFold(name, "gzip"), strings.EqualFold(name, "x-gzip"): // RFC 9110, 8.4.1.3
			at = &weights[CodingGzip]
		case strings.EqualFold(name, "zstd"):
			at = &weights[CodingZstd]
		case strings.EqualFold(name, "identity"):
			at = &weights[CodingIdentity]
		default:
			continue
		}
		if *at == unsaid || q < *at {
			*at = q
		}
	}
	return true
}

// parseWeight reads `q=` and a qvalue (RFC 9110, 12.4.2) in thousandths; -1 is
// none.
func parseWeight(s string) int {
	if len(s) < 3 || len(s) > len("q=0.000") || s[0]|0x20 != 'q' || s[1] != '=' {
		return -1
	}
	s = s[2:]
	q := int(s[0]-'0') * 1000
	if s[0] != '0' && s[0] != '1' || len(s) > 1 && s[1] != '.' {
		return -1
	}
	for i, unit := 2, 100; i < len(s); i, unit = i+1, unit/10 {
		if s[i] < '0' || s[i] > '9' {
			return -1
		}
		q += int(s[i]-'0') * unit
	}
	if q > 1000 {
		return -1
	}
	return q
}

// trimOWS takes spaces and tabs off both ends (RFC 9110, 5.6.3).
func trimOWS(s string) string { return strings.Trim(s, " \t") }

// isToken says whether s is a token (RFC 9110, 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
