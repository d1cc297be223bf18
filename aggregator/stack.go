package aggregator

// branchStack is what a call through upstream and grpc-go needs of a stack, in
// bytes, with room to spare.
const branchStack = 12 << 10

// deepen makes the goroutine's stack large at once. A new goroutine has 2 KB, and
// doubles them whenever they are full: each time all frames, deep in grpc-go by
// then, are looked up and copied. Here there is one frame to copy. Called with 0 it
// does nothing else: it is its own frame, room, that the runtime makes place for.
//
//go:noinline
func deepen(n int) (sum byte) {
	if n == 0 {
		return 0
	}
	var room [branchStack]byte
	room[n%branchStack] = 1
	for _, b := range room {
		sum += b
	}
	return sum
}
