package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// openKeys reads the Ed25519 private keys (PEM, PKCS#8) of a file, and makes one
// where there is no file. Of several processes that do so at once, all get the
// same key: the file appears whole, and never over another.
func openKeys(path string) ([]ed25519.PrivateKey, error) {
	keys, err := readKeys(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeKey(path); err != nil {
			return nil, fmt.Errorf("make the key %s: %w", path, err)
		}
		return readKeys(path)
	}
	return keys, err
}

// openKey is openKeys of a file with one key.
func openKey(path string) (ed25519.PrivateKey, error) {
	keys, err := openKeys(path)
	if err != nil {
		return nil, err
	}
	if len(keys) != 1 {
		return nil, fmt.Errorf("%s: holds %d keys; want one", path, len(keys))
	}
	return keys[0], nil
}

func readKeys(path string) ([]ed25519.PrivateKey, error) {
	raw, err := readFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

func parseKeys(raw []byte) ([]ed25519.PrivateKey, error) {
	var keys []ed25519.PrivateKey
	for {
		block, rest := pem.Decode(raw)
		if block == nil || block.Type != "PRIVATE KEY" {
			return nil, errors.New("want PEM blocks PRIVATE KEY (PKCS#8) alone")
		}
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("the PEM block is no PKCS#8 key") // The cause may quote the key.
		}
		key, ok := parsed.(ed25519.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("holds a key of type %T; want Ed25519", parsed)
		}
		if slices.ContainsFunc(keys, func(k ed25519.PrivateKey) bool { return k.Equal(key) }) {
			return nil, errors.New("holds a key twice")
		}
		keys = append(keys, key)
		if raw = rest; len(bytes.TrimSpace(raw)) == 0 {
			return keys, nil
		}
	}
}

// publicHalves keeps the order.
func publicHalves(keys []ed25519.PrivateKey) []ed25519.PublicKey {
	public := make([]ed25519.PublicKey, len(keys))
	for i, k := range keys {
		public[i] = k.Public().(ed25519.PublicKey)
	}
	return public
}

func encodeKeys(keys []ed25519.PrivateKey) ([]byte, error) {
	var raw []byte
	for _, k := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			return nil, err
		}
		raw = append(raw, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	}
	return raw, nil
}

func encodePublic(keys []ed25519.PublicKey) ([]byte, error) {
	var raw []byte
	for _, k := range keys {
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return nil, err
		}
		raw = append(raw, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	return raw, nil
}

func makeKey(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	raw, err := encodeKeys([]ed25519.PrivateKey{key})
	if err != nil {
		return err
	}
	err = create(path, raw, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil // Another process was faster.
	}
	return err
}

// create writes a file that must not exist. It appears under its name only when
// it is whole: a link is the one step that does so and fails if the name is
// taken.
func create(path string, data []byte, mode fs.FileMode) (err error) {
	tmp, err := temporary(path, data, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp)) }()
	return os.Link(tmp, path)
}

// replace writes a file over one that may exist, whole or not at all. The file
// stays its owner's, so that who could read it still can.
func replace(path string, data []byte, mode fs.FileMode) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // A link stays one.
	}
	tmp, err := temporary(path, data, mode)
	if err != nil {
		return err
	}
	if err = sameOwner(path, tmp); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}

// temporary writes a file beside path.
func temporary(path string, data []byte, mode fs.FileMode) (name string, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // O_EXCL, 0600.
	if err != nil {
		return "", err
	}
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return "", errors.Join(err, os.Remove(tmp.Name()))
	}
	return tmp.Name(), nil
}

// publicFile is where the public halves of a key file stand: x.pub.pem for
// x.pem.
func publicFile(keyFile string) string { return strings.TrimSuffix(keyFile, ".pem") + ".pub.pem" }

// publish puts the public halves (PEM, PKIX) of a key file's keys beside it. One
// that shares no key with them is somebody else's, and an error: with it every
// service would refuse every call. One that shares some is from before the keys
// were rotated, and is written again. Where an operator mounts the files
// read-only, the public half may be missing, or may lack keys other than the
// first, which signs.
func publish(path string, keys []ed25519.PublicKey) error {
	want, err := encodePublic(keys)
	if err != nil {
		return err
	}
	err = create(path, want, 0o644)
	switch {
	case err == nil:
		return nil
	case readOnly(err):
		if _, statErr := os.Stat(path); errors.Is(statErr, fs.ErrNotExist) {
			return nil
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	raw, err := readFile(path)
	if err != nil {
		return err
	}
	found, err := parsePublicKeys(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	signs, shared := has(found, keys[0]), 0
	for _, k := range keys {
		if has(found, k) {
			shared++
		}
	}
	if shared == 0 {
		return fmt.Errorf("%s is not the public half of the key beside it: remove it to have it made again", path)
	}
	if shared == len(keys) && len(found) == len(keys) {
		return nil
	}
	err = replace(path, want, 0o644)
	if err != nil && readOnly(err) && signs {
		return nil
	}
	return err
}

func has(found []any, key ed25519.PublicKey) bool {
	return slices.ContainsFunc(found, func(k any) bool { return key.Equal(k) })
}

func readOnly(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
}
