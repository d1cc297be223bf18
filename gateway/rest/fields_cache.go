package rest

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/gateway/transcode"
)

const (
	maskSets = 32
	maskWays = 4
	// maxKnownMask is the longest text that is remembered, in bytes: what programs
	// ask for again and again is shorter.
	maxKnownMask = 256
)

// maskSeed is one for all: the sets must only not be foreseen by callers.
var maskSeed = maphash.MakeSeed()

// maskCache remembers compiled masks by their text, at most 128 of them. It has no
// lock: a place is read and replaced whole, and who compiles holds up nobody. A
// mask that has been asked for again stays before one that was asked for once, so
// that a flood of different masks takes one place in each set, and nobody's. The
// zero maskCache is empty. It is safe for concurrent use.
type maskCache struct {
	sets [maskSets][maskWays]atomic.Pointer[knownMask]
}

type knownMask struct {
	text string
	mask *transcode.Mask
	used atomic.Bool // since the places of its set were last looked through
}

// get returns nil where the mask is not known.
func (c *maskCache) get(text string) *transcode.Mask {
	if len(text) > maxKnownMask {
		return nil
	}
	set := c.set(text)
	for i := range set {
		k := set[i].Load()
		if k == nil || k.text != text {
			continue
		}
		if !k.used.Load() { // Reading is shared between processors, writing is not.
			k.used.Store(true)
		}
		return k.mask
	}
	return nil
}

// put gives a mask the first place that is empty or not in use. Where all are, it
// gets none, and they must prove themselves again.
func (c *maskCache) put(text string, m *transcode.Mask) {
	if len(text) > maxKnownMask {
		return
	}
	set := c.set(text)
	place := -1
	for i := range set {
		k := set[i].Load()
		if k == nil {
			place = i
			break
		}
		if place < 0 && !k.used.Load() {
			place = i
		}
	}
	if place >= 0 {
		// The text is a part of the request's memory.
		set[place].Store(&knownMask{text: strings.Clone(text), mask: m})
		return
	}
	for i := range set {
		set[i].Load().used.Store(false)
	}
}

func (c *maskCache) set(text string) *[maskWays]atomic.Pointer[knownMask] {
	return &c.sets[maphash.String(maskSeed, text)%maskSets]
}
