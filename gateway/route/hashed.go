package route

import "hash/maphash"

// hashed finds the literals of the nodes that have many, of all such nodes of a trie: open addressing, half
// empty at least. A slot is eight bytes, so that those of a thousand literals stay in the processor's first
// cache; what it refers to is a node that the walk goes on from. The zero value is empty.
type hashed struct {
	seed  maphash.Seed
	slots []slot // a power of two
	used  int
}

type slot struct {
	hash  uint32
	child int32 // 0: empty
}

func (h *hashed) hash(parent int32, text string) uint32 {
	sum := maphash.String(h.seed, text) + uint64(parent)*0x9E3779B97F4A7C15
	return uint32(sum>>32) ^ uint32(sum)
}

// get returns the literal of a node, or 0.
func (h *hashed) get(t *trie, parent int32, text string) int32 {
	sum, mask := h.hash(parent, text), uint32(len(h.slots)-1)
	for i := sum & mask; ; i = (i + 1) & mask {
		s := h.slots[i]
		if s.child == 0 {
			return 0
		}
		if s.hash == sum && t.nodes[s.child].parent == parent && t.is(s.child, text) {
			return s.child
		}
	}
}

// add adds a node that is not there yet.
func (h *hashed) add(t *trie, child int32) {
	if h.slots == nil {
		h.seed = maphash.MakeSeed()
	}
	if h.used++; 2*h.used > len(h.slots) {
		old := h.slots
		h.slots = make([]slot, max(16, 2*len(old)))
		for _, s := range old {
			if s.child != 0 {
				h.put(s)
			}
		}
	}
	n := t.nodes[child]
	h.put(slot{h.hash(n.parent, string(t.text[n.literal:n.literal+n.length])), child})
}

func (h *hashed) put(s slot) {
	mask := uint32(len(h.slots) - 1)
	i := s.hash & mask
	for h.slots[i].child != 0 {
		i = (i + 1) & mask
	}
	h.slots[i] = s
}
