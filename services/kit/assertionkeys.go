package kit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// keyFileInterval is how often key files are looked at. A rotation of the
	// gateway's key waits for longer than that.
	keyFileInterval = 5 * time.Second
	// settledAge is the age at which a file's time of change tells versions apart:
	// two writes within the resolution of a file system's clock leave the same one.
	settledAge = 2 * time.Second
	// maxKeyFile bounds what is read of a file, in bytes.
	maxKeyFile = 1 << 20
)

// KeyFilesOptions name files with the gateway's public keys.
type KeyFilesOptions struct {
	// Files are PEM files as LoadKeys reads them; at least one.
	Files []string
	// Interval is how often they are looked at; 0 means every five seconds.
	Interval time.Duration
	// Logger takes what goes wrong with a file. Default: slog.Default().
	Logger *slog.Logger
}

// KeyFiles are files with public keys that are read again when they change, so
// that the gateway's key can be rotated while services run. It is safe for
// concurrent use.
type KeyFiles struct {
	o    KeyFilesOptions
	keys atomic.Pointer[[]ed25519.PublicKey]
	seen []fs.FileInfo // Nil: to be read whatever they look like.
	last string        // The failure that was logged last.

	once          sync.Once
	stop, stopped chan struct{}
}

// WatchKeys reads the files, and reads them again when one has changed: its time,
// size or inode, links followed, for Kubernetes changes a mounted file by turning
// a link. Files that are no good then leave the keys as they were. Close ends it.
func WatchKeys(o KeyFilesOptions) (*KeyFiles, error) {
	if o.Interval <= 0 {
		o.Interval = keyFileInterval
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	k := &KeyFiles{o: o, stop: make(chan struct{}), stopped: make(chan struct{})}
	if err := k.load(); err != nil {
		return nil, err
	}
	go k.watch()
	return k, nil
}

// Keys returns the keys of now, for NewVerifierFunc.
func (k *KeyFiles) Keys() []ed25519.PublicKey { return *k.keys.Load() }

// Close ends watching; the keys stay as they are.
func (k *KeyFiles) Close() {
	k.once.Do(func() { close(k.stop) })
	<-k.stopped
}

func (k *KeyFiles) watch() {
	defer close(k.stopped)
	tick := time.NewTicker(k.o.Interval)
	defer tick.Stop()
	for {
		select {
		case <-k.stop:
			return
		case <-tick.C:
			k.look()
		}
	}
}

// look reads the files if one has changed.
func (k *KeyFiles) look() {
	// Before reading, so that a change during it is seen at the next look.
	is, old := k.stat()
	if is != nil && slices.EqualFunc(is, k.seen, sameFile) {
		return
	}
	k.seen = nil
	err := k.load()
	if err == nil && old {
		k.seen = is
	}
	switch {
	case err == nil && k.last != "":
		k.last = ""
		k.o.Logger.Info("the assertion keys can be read again")
	case err != nil && err.Error() != k.last:
		k.last = err.Error()
		k.o.Logger.Error("the assertion keys cannot be read; those from before stay in use", "error", err)
	}
}

// stat looks at the files; old says that their times tell versions apart.
func (k *KeyFiles) stat() (infos []fs.FileInfo, old bool) {
	old = true
	for _, file := range k.o.Files {
		info, err := os.Stat(file)
		if err != nil {
			return nil, false
		}
		infos = append(infos, info)
		old = old && time.Since(info.ModTime()) > settledAge
	}
	return infos, old
}

func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func (k *KeyFiles) load() error {
	keys, err := LoadKeys(k.o.Files...)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return errors.New("no assertion key: name at least one file with a public key of the gateway")
	}
	was := k.keys.Load()
	if was != nil && slices.EqualFunc(*was, keys, func(a, b ed25519.PublicKey) bool { return a.Equal(b) }) {
		return nil
	}
	k.keys.Store(&keys)
	if was != nil {
		k.o.Logger.Info("the assertion keys have changed", "keys", len(keys))
	}
	return nil
}

// LoadKeys reads Ed25519 public keys (PEM, PKIX: "PUBLIC KEY") from files, each
// of which may hold several. A file without one is an error, and so is a private
// key: a service has no business with it.
func LoadKeys(files ...string) ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	for _, file := range files {
		raw, err := readKeyFile(file)
		if err != nil {
			return nil, fmt.Errorf("assertion key: %w", err)
		}
		more, err := parseKeys(raw)
		if err != nil {
			return nil, fmt.Errorf("assertion key %s: %w", file, err)
		}
		keys = append(keys, more...)
	}
	return keys, nil
}

func parseKeys(raw []byte) ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	block, rest := pem.Decode(raw)
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("holds a %q, want PUBLIC KEY", block.Type)
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("not a PKIX public key: %w", err)
		}
		key, ok := parsed.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("holds a %T, want an Ed25519 key", parsed)
		}
		keys = append(keys, key)
	}
	if bytes.Contains(rest, []byte("-----BEGIN")) { // Somebody is still writing it.
		return nil, errors.New("holds a broken PEM block")
	}
	if len(keys) == 0 {
		return nil, errors.New("holds no PEM public key")
	}
	return keys, nil
}

func readKeyFile(file string) ([]byte, error) {
	f, err := os.Open(file) //nolint:gosec // The operator names the file.
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // Only read.
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxKeyFile {
		return nil, fmt.Errorf("larger than %d bytes", maxKeyFile)
	}
	return raw, nil
}
