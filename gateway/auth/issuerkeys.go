package auth

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// KeyFiles are an issuer's keys that stand in files: a [KeySource] that follows
// them. It is safe for concurrent use.
type KeyFiles struct {
	paths     []string
	symmetric bool // An HMAC secret, not public keys.
	read      func() ([]any, error)
	keys      atomic.Pointer[[]any]

	mu       sync.Mutex
	users    []keyUser
	failed   failures
	watching watching
}

// keyUser is a Verifier: check refuses keys that its issuer has no use for,
// changed is told of new ones.
type keyUser struct {
	check   func(keys []any) error
	changed func()
}

// PublicKeyFiles reads PEM files with one or more public keys each (PKIX, or
// PKCS#1 for RSA): RSA of 2048 bits or more, ECDSA on P-256, P-384 or P-521,
// Ed25519. Anything else in a file is an error.
func PublicKeyFiles(paths ...string) (*KeyFiles, error) {
	if len(paths) == 0 {
		return nil, errors.New("no file with public keys is named")
	}
	return newKeyFiles(false, func() ([]any, error) {
		var keys []any
		for _, path := range paths {
			raw, err := readFile(path)
			if err != nil {
				return nil, err
			}
			found, err := parsePublicKeys(raw)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			keys = append(keys, found...)
		}
		return keys, nil
	}, paths...)
}

// SecretFile reads an HMAC secret: the bytes of the file as they stand, a last
// newline included. Fewer than 32 are an error, and so is PEM: a certificate or a
// public key is known to everyone, who could then sign.
func SecretFile(path string) (*KeyFiles, error) {
	return newKeyFiles(true, func() ([]any, error) {
		raw, err := readFile(path)
		if err != nil {
			return nil, err
		}
		if n := minSecret(""); len(raw) < n {
			return nil, fmt.Errorf("%s: an HMAC secret of %d bytes; want %d at least", path, len(raw), n)
		}
		if block, _ := pem.Decode(raw); block != nil {
			return nil, fmt.Errorf("%s: holds a PEM block %q, which is no HMAC secret", path, block.Type)
		}
		return []any{raw}, nil
	}, path)
}

func newKeyFiles(symmetric bool, read func() ([]any, error), paths ...string) (*KeyFiles, error) {
	k := &KeyFiles{paths: paths, symmetric: symmetric, read: read}
	keys, err := read()
	if err != nil {
		return nil, err
	}
	k.keys.Store(&keys)
	return k, nil
}

// Keys returns all keys: files name no kid.
func (k *KeyFiles) Keys(context.Context, string, string) ([]any, error) { return *k.keys.Load(), nil }

// Reload reads the files again. The keys that they hold take the place of those
// from before, all at once, and tokens that were verified with those are verified
// again. On an error the keys from before stay.
func (k *KeyFiles) Reload() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reload()
}

// reload must not run twice at once.
func (k *KeyFiles) reload() error {
	keys, err := k.read()
	if err != nil {
		return err
	}
	if reflect.DeepEqual(keys, *k.keys.Load()) {
		return nil
	}
	for _, u := range k.users {
		if err := u.check(keys); err != nil {
			return err
		}
	}
	k.keys.Store(&keys)
	for _, u := range k.users { // After the keys: see Verifier.changes.
		u.changed()
	}
	return nil
}

// Watch reloads when one of the files has changed, which it looks for every
// interval; 0 means every five seconds. What goes wrong is logged, once while it
// stays the same; log nil means slog.Default(). Close ends it.
func (k *KeyFiles) Watch(interval time.Duration, log *slog.Logger) {
	log = orDefaultLog(log)
	for _, path := range k.paths {
		k.watching.start(path, interval, func() error {
			k.mu.Lock()
			defer k.mu.Unlock()
			err := k.reload()
			k.failed.what = "the keys of an issuer (" + k.paths[0] + ")"
			k.failed.report(log, err)
			return err
		})
	}
}

// Close stops watching, and waits until that is so. The keys may still be used.
func (k *KeyFiles) Close() { k.watching.close() }

// use has the keys checked, now and before they change, and the change told.
func (k *KeyFiles) use(u keyUser) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := u.check(*k.keys.Load()); err != nil {
		return err
	}
	k.users = append(k.users, u)
	return nil
}
