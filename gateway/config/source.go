package config

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"strings"
	"sync"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

// Source is where a configuration is read from, again whenever it changes.
type Source interface {
	// Load reads, checks and completes the configuration, as Load does.
	Load(ctx context.Context) (*configv1.Config, error)
	// Watch calls changed, from one goroutine, whenever what Load reads may be
	// another, until ctx ends. What goes wrong with watching is logged, and tried
	// again.
	Watch(ctx context.Context, log *slog.Logger, changed func())
	// String names the source, without secrets.
	String() string
	// Close releases what it holds.
	Close() error
}

// seen is what Load has read last: only something else is a change.
type seen struct {
	mu  sync.Mutex
	sum [sha256.Size]byte
}

// sumOf tells contents apart; that there is none is a content of its own.
func sumOf(data []byte, err error) [sha256.Size]byte {
	if err != nil {
		return sha256.Sum256([]byte("error: " + err.Error()))
	}
	return sha256.Sum256(append([]byte("data: "), data...))
}

func (s *seen) note(data []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum = sumOf(data, err)
}

func (s *seen) is(data []byte, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sum == sumOf(data, err)
}

// Open returns the source that a name says: a file's path, or
// etcd://host:2379/key and etcds://host:2379/key for a key in etcd. The environment
// (getenv) stands over the values of both. An empty name has defaults and
// environment alone.
func Open(name string, getenv func(string) string) (Source, error) {
	if inEtcd(name) {
		return openEtcd(name, getenv)
	}
	return &fileSource{path: name, getenv: getenv}, nil
}

func inEtcd(name string) bool {
	return strings.HasPrefix(name, "etcd://") || strings.HasPrefix(name, "etcds://")
}

// Read reads a configuration once, from wherever Open can.
func Read(ctx context.Context, name string, getenv func(string) string) (*configv1.Config, error) {
	s, err := Open(name, getenv)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }() // Only read.
	return s.Load(ctx)
}
