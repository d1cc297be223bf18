package wire

import "google.golang.org/grpc/mem"

// grpc-go's pool has nothing between 32 KiB and 1 MiB: a message of 36 KiB would
// take 1 MiB, and clear all of it. Ours doubles its sizes up to there.
var (
	grpcs = mem.DefaultBufferPool()
	ours  = tiered()
)

func tiered() mem.BufferPool {
	p, err := mem.NewBinaryTieredBufferPool(8, 12, 14, 15, 16, 17, 18, 19, 20)
	if err != nil {
		panic(err) // The exponents are constants.
	}
	return p
}

// pool is where frames take memory: ours, unless grpc-go has been given another
// than its own. Tests do, to find who reads what was given back.
func pool() mem.BufferPool {
	if p := mem.DefaultBufferPool(); p != grpcs {
		return p
	}
	return ours
}
