package route

// few is how many keys are looked through one by one; a map of as many costs more, and lies elsewhere in
// memory.
const few = 4

// table maps text to a value. Most nodes of a trie have one literal behind them, and some have thousands. The
// zero table is empty.
type table[V any] struct {
	list []tableEntry[V]
	more map[string]V // all of them, once there are more than few
}

type tableEntry[V any] struct {
	key   string
	value V
}

// get returns the zero value where the key is not there.
func (t *table[V]) get(key string) (v V) {
	if t.more != nil {
		return t.more[key]
	}
	for i := range t.list {
		if t.list[i].key == key {
			return t.list[i].value
		}
	}
	return v
}

// set adds a key that is not there yet.
func (t *table[V]) set(key string, v V) {
	if t.more != nil {
		t.more[key] = v
		return
	}
	t.list = append(t.list, tableEntry[V]{key, v})
	if len(t.list) <= few {
		return
	}
	t.more = make(map[string]V, len(t.list))
	for _, e := range t.list {
		t.more[e.key] = e.value
	}
	t.list = nil
}

func (t *table[V]) empty() bool { return len(t.list) == 0 && t.more == nil }
