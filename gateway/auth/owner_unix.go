//go:build unix

package auth

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// sameOwner gives the file at to the owner of the one at from, if there is one:
// keys that root rotates must stay readable for the gateway's own user.
func sameOwner(from, to string) error {
	was, err := os.Stat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	is, err := os.Stat(to)
	if err != nil {
		return err
	}
	w, ok := was.Sys().(*syscall.Stat_t)
	i, also := is.Sys().(*syscall.Stat_t)
	if !ok || !also || w.Uid == i.Uid && w.Gid == i.Gid {
		return nil
	}
	return os.Chown(to, int(w.Uid), int(w.Gid))
}
