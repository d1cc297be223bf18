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
	"syscall"
)

// openKey reads the Ed25519 private key (PEM, PKCS#8) of a file, and makes it
// where there is none. Of several processes that do so at once, all get the same
// key: the file appears whole, and never over another.
func openKey(path string) (ed25519.PrivateKey, error) {
	raw, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeKey(path); err != nil {
			return nil, fmt.Errorf("make the key %s: %w", path, err)
		}
		raw, err = readFile(path)
	}
	if err != nil {
		return nil, err
	}
	key, err := parseKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func parseKey(raw []byte) (ed25519.PrivateKey, error) {
	block, rest := pem.Decode(raw)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("want one PEM block PRIVATE KEY (PKCS#8)")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the PEM block is no PKCS#8 key") // The cause may quote the key.
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("holds a key of type %T; want Ed25519", parsed)
	}
	return key, nil
}

func makeKey(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	err = create(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil // Another process was faster.
	}
	return err
}

// create writes a file that must not exist. It appears under its name only when
// it is whole: a link is the one step that does so and fails if the name is
// taken.
func create(path string, data []byte, mode fs.FileMode) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // O_EXCL, 0600.
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Link(tmp.Name(), path)
}

// publish puts the public half (PEM, PKIX) of a key beside it. A key that an
// operator mounts read-only may lack it; a wrong one would make every service
// refuse every call, and is an error.
func publish(path string, key ed25519.PublicKey) error {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return err
	}
	err = create(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644)
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		if _, statErr := os.Stat(path); errors.Is(statErr, fs.ErrNotExist) {
			return nil
		}
	case err != nil && !errors.Is(err, fs.ErrExist):
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
	if len(found) != 1 || !key.Equal(found[0]) {
		return fmt.Errorf("%s is not the public half of the key beside it: remove it to have it made again", path)
	}
	return nil
}
