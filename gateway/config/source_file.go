package config

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	configv1 "github.com/sluice-gateway/sluice/gen/sluice/config/v1"
)

const (
	// settle is how long a file must be left alone: who writes it in two steps is
	// done then.
	settle = 100 * time.Millisecond
	// pollEvery is how often the file is looked at whatever the system says: on
	// network file systems it says nothing.
	pollEvery = 5 * time.Second
)

// fileSource is a YAML file. It may be replaced by a rename, or by a symbolic link
// that points elsewhere, as Kubernetes does with mounted ConfigMaps.
type fileSource struct {
	path   string
	getenv func(string) string
	seen   seen
}

// Load implements Source.
func (s *fileSource) Load(context.Context) (*configv1.Config, error) {
	if s.path == "" {
		return Load("", s.getenv)
	}
	data, err := read(s.path)
	s.seen.note(data, err)
	if err != nil {
		return nil, err
	}
	return load(&file{path: s.path, data: data}, s.getenv)
}

// String implements Source.
func (s *fileSource) String() string { return s.path }

// Close implements Source: a file is open only while it is read.
func (s *fileSource) Close() error { return nil }

// Watch implements Source. Directories are watched, for the file itself is another
// after each change; what counts is whether its content is.
func (s *fileSource) Watch(ctx context.Context, log *slog.Logger, changed func()) {
	if s.path == "" {
		<-ctx.Done()
		return
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("the system does not tell of changed files: the configuration is looked at every 5s", "error", err)
		w = &fsnotify.Watcher{} // Its channels never have anything.
	} else {
		defer func() { _ = w.Close() }() // Nothing is lost with it.
	}
	s.watch(ctx, w, changed)
}

func (s *fileSource) watch(ctx context.Context, w *fsnotify.Watcher, changed func()) {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	settled := time.NewTimer(0) // What changed since it was loaded is seen at once.
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-w.Events:
			if ok {
				settled.Reset(settle)
			}
			continue
		case <-w.Errors: // Too many events at once, say: the poll finds what they were.
			continue
		case <-poll.C:
		case <-settled.C:
		}
		s.follow(w)
		if data, err := read(s.path); !s.seen.is(data, err) {
			changed()
		}
	}
}

// follow has the directories watched in which the path and what it stands for lie.
func (s *fileSource) follow(w *fsnotify.Watcher) {
	if w.Events == nil {
		return
	}
	want := []string{filepath.Dir(s.path)}
	if real, err := filepath.EvalSymlinks(s.path); err == nil {
		want = append(want, filepath.Dir(real))
	}
	have := w.WatchList()
	for _, dir := range want {
		if !slices.Contains(have, dir) {
			_ = w.Add(dir) // One that is not there is looked for again.
		}
	}
	for _, dir := range have {
		if !slices.Contains(want, dir) {
			_ = w.Remove(dir) // It may be gone.
		}
	}
}
