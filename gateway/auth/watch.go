package auth

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// watchInterval is how often a file is looked at where nothing else is said.
const watchInterval = 5 * time.Second

// settled is the age at which a file's time of change tells versions apart: two
// writes within the resolution of a file system's clock leave the same one.
const settled = 2 * time.Second

// watcher calls reload when a file has changed: at first, when its time, size or
// inode is another, and until a reload has succeeded. It looks through symbolic
// links, for Kubernetes changes a mounted file by turning the link to its
// directory. It asks the file again and again rather than the kernel, whose
// notices do not cross network file systems and bind mounts.
type watcher struct {
	path   string
	reload func() error
	seen   fs.FileInfo // Nil: the file is to be read whatever it looks like.
}

// look reloads if the file has changed since the last look.
func (w *watcher) look() {
	// Before reading, so that a change during it is seen at the next look.
	info, err := os.Stat(w.path)
	if err == nil && w.seen != nil && os.SameFile(info, w.seen) && info.ModTime().Equal(w.seen.ModTime()) && info.Size() == w.seen.Size() {
		return
	}
	w.seen = nil
	if w.reload() == nil && err == nil && time.Since(info.ModTime()) > settled {
		w.seen = info
	}
}

// watching runs watchers until they are stopped. The zero value runs none. It is
// safe for concurrent use.
type watching struct {
	mu      sync.Mutex
	closed  bool
	stop    []context.CancelFunc
	running sync.WaitGroup
}

// start looks at the file every interval; 0 means every five seconds.
func (w *watching) start(path string, interval time.Duration, reload func() error) {
	if interval <= 0 {
		interval = watchInterval
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = append(w.stop, cancel)
	w.running.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		file := watcher{path: path, reload: reload}
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				file.look()
			}
		}
	})
}

// close stops the watchers and waits for them.
func (w *watching) close() {
	w.mu.Lock()
	w.closed = true
	for _, stop := range w.stop {
		stop()
	}
	w.stop = nil
	w.mu.Unlock()
	w.running.Wait()
}

// failures logs a failure once, however often it repeats, and its end.
type failures struct {
	what string
	last string
}

func (f *failures) report(log *slog.Logger, err error) {
	switch {
	case err == nil && f.last != "":
		f.last = ""
		log.Info(f.what + " can be read again")
	case err != nil && err.Error() != f.last:
		f.last = err.Error()
		log.Error(f.what+" cannot be read; those from before stay in use", "error", err)
	}
}
