package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// KeyRotation gives the gateway another key for its assertions, in steps between
// which gateways and services keep running:
//
//  1. Add: the new key is published, and signs nothing. Wait until every service
//     has read the public halves.
//  2. Promote: the new key signs. Wait until every gateway has read its keys and
//     the last assertion of the old key has ended.
//  3. Retire: the old key is gone.
//
// It may stop after any step. Files appear whole, the private one first; a
// gateway that starts between the two writes publishes what is missing. It is not
// safe for concurrent use, but notices when another one is at work.
type KeyRotation struct {
	// File is the key file of the gateways.
	File string
	// Copies are files that get the public halves too.
	Copies []string

	left []ed25519.PublicKey // As the last step left the file.
}

// Keys returns how many keys the file holds, and when it was last changed.
func (r *KeyRotation) Keys() (n int, changed time.Time, err error) {
	info, err := os.Stat(r.File)
	if err != nil {
		return 0, time.Time{}, err
	}
	keys, err := readKeys(r.File)
	return len(keys), info.ModTime(), err
}

// Add makes a key and puts it last.
func (r *KeyRotation) Add() error {
	return r.step(func(keys []ed25519.PrivateKey) ([]ed25519.PrivateKey, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return append(keys, key), err
	})
}

// Promote puts the last key first.
func (r *KeyRotation) Promote() error {
	return r.step(func(keys []ed25519.PrivateKey) ([]ed25519.PrivateKey, error) {
		if len(keys) < 2 {
			return nil, errors.New("there is no other key to sign with")
		}
		last := len(keys) - 1
		return slices.Concat(keys[last:], keys[:last]), nil
	})
}

// Retire takes away all keys but the first.
func (r *KeyRotation) Retire() error {
	return r.step(func(keys []ed25519.PrivateKey) ([]ed25519.PrivateKey, error) { return keys[:1], nil })
}

func (r *KeyRotation) step(change func([]ed25519.PrivateKey) ([]ed25519.PrivateKey, error)) error {
	keys, err := readKeys(r.File)
	if err != nil {
		return err
	}
	if r.left != nil && !sameKeys(r.left, publicHalves(keys)) {
		return fmt.Errorf("%s: somebody else has changed it meanwhile", r.File)
	}
	if keys, err = change(keys); err != nil {
		return fmt.Errorf("%s: %w", r.File, err)
	}
	private, err := encodeKeys(keys)
	if err != nil {
		return err
	}
	halves := publicHalves(keys)
	public, err := encodePublic(halves)
	if err != nil {
		return err
	}
	if err := replace(r.File, private, 0o600); err != nil {
		return err
	}
	r.left = halves
	for _, path := range append([]string{publicFile(r.File)}, r.Copies...) {
		if err := replace(path, public, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func sameKeys(a, b []ed25519.PublicKey) bool {
	return slices.EqualFunc(a, b, func(a, b ed25519.PublicKey) bool { return a.Equal(b) })
}
