//go:build !unix

package auth

// sameOwner has nothing to do where files take their rights from the directory.
func sameOwner(_, _ string) error { return nil }
