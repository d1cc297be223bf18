// Package config reads the gateway's configuration: a YAML file, strictly, and
// a few environment variables over it. Its schema is sluice.config.v1; what a
// caller gets is complete, with every default filled in. Only the composition
// root and the command import it: every other package has its own Options.
package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// The most that is read of a file, in bytes.
const maxFile = 1 << 20

// Load reads the file at path (YAML; "" means no file), puts the environment
// over it and fills in the defaults. The error joins everything that is wrong,
// each with its line and column or the name of the variable. getenv is
// os.Getenv; SLUICE_CONFIG, the path itself, is for the caller to read. A path such
// as etcd://host:2379/key is read from there, see Open.
func Load(path string, getenv func(string) string) (*configv1.Config, error) {
	if inEtcd(path) {
		return Read(context.Background(), path, getenv)
	}
	f := &file{path: path}
	if path != "" {
		var err error
		if f.data, err = read(path); err != nil {
			return nil, err
		}
	}
	return load(f, getenv)
}

// Check says what is wrong with a file, whatever the environment.
func Check(path string) error {
	if path == "" {
		return errors.New("no configuration file is named")
	}
	_, err := Load(path, func(string) string { return "" })
	return err
}

// LoadAPIKeys reads a file of API keys (auth.api_keys.file) as strictly as Load
// reads the configuration. The error joins everything that is wrong, each with
// its line and column. The limit classes that the keys name are the caller's to
// look up: they stand in the configuration.
//
// Beside an error the keys are those that the file names, with nothing but id and
// hash, unchecked: enough to tell which keys are gone. There are none where the
// file is no YAML or has no list of keys.
func LoadAPIKeys(path string) ([]*configv1.ApiKey, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	return loadAPIKeys(&file{path: path, data: data})
}

func loadAPIKeys(f *file) ([]*configv1.ApiKey, error) {
	keys := &configv1.ApiKeyFile{}
	f.decode(keys)
	if len(f.problems) == 0 {
		f.crossCheckAPIKeys(keys.GetKeys(), "keys")
	}
	if err := f.err(); err != nil {
		return f.named(), err
	}
	return keys.GetKeys(), nil
}

// named are the API keys that a file with problems names.
func (f *file) named() []*configv1.ApiKey {
	var keys []*configv1.ApiKey
	for i := 0; f.root != nil && f.root.Kind == yaml.MappingNode && i+1 < len(f.root.Content); i += 2 {
		list := f.root.Content[i+1]
		if f.root.Content[i].Value != "keys" || list.Kind != yaml.SequenceNode {
			continue // Of lists that come twice, all are looked at.
		}
		for _, entry := range list.Content {
			if id := child(entry, "id"); id != nil && id.Kind == yaml.ScalarNode && id.Value != "" {
				key := &configv1.ApiKey{Id: id.Value}
				if hash := child(entry, "hash"); hash != nil {
					key.Hash = hash.Value
				}
				keys = append(keys, key)
			}
		}
	}
	return keys
}

func load(f *file, getenv func(string) string) (*configv1.Config, error) {
	c := &configv1.Config{}
	f.decode(c)
	sound := len(f.problems) == 0
	envErr := override(c, getenv)
	fillDefaults(c)
	if sound && envErr == nil { // On half a configuration they would mislead.
		f.crossCheck(c)
	}
	if err := errors.Join(f.err(), envErr); err != nil {
		return nil, err
	}
	return c, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // The operator names the file.
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // Only read.
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	return data, nil
}
