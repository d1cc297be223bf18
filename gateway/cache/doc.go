// Package cache keeps answers in memory, bounded by bytes, and makes one fetch of
// misses that come at once. It knows rules (gateway/policy) and bytes, not
// transports: gateway/upstream keeps the answers of RPCs with it, gateway/proxy those
// of plain HTTP routes, and gateway/rest keeps beside an answer how that is rendered.
//
// What is kept is never changed and never a pool's: who puts bytes in hands them over.
package cache
