package allowlist

import (
	"fmt"
	"io/fs"
	"os"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/policy/owner/inroot"
)

// glob returns the absolute names beneath root that match an absolute
// pattern: * ? [class] {alternatives}, and ** for any number of directories.
// ** does not follow symbolic links, so it ends. Directories that this user
// can't read match nothing.
func glob(root *inroot.Root, pattern string) ([]string, error) {
	matches, err := doublestar.Glob(rootFS{root}, pattern[1:], doublestar.WithNoFollow())
	if err != nil {
		return nil, fmt.Errorf("glob %q: %w", pattern, err)
	}
	for i, m := range matches {
		matches[i] = "/" + m
	}
	return matches, nil
}

// rootFS shows the files beneath a root, whatever bytes are in their names,
// to doublestar. Links on the way are followed beneath the root.
type rootFS struct{ root *inroot.Root }

var (
	_ fs.ReadDirFS = rootFS{}
	_ fs.StatFS    = rootFS{}
)

// Open opens a directory for reading, and any other file for nothing but
// stat: opening a FIFO or a device can have effects.
func (f rootFS) Open(name string) (fs.File, error) {
	canonical, err := f.root.Canonical("/" + name)
	if err != nil {
		return nil, err
	}
	fd, err := f.root.Open(canonical, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		fd, err = f.root.Open(canonical, unix.O_PATH|unix.O_NOFOLLOW)
	}
	if err != nil {
		return nil, err
	}
	// Where a filesystem keeps no types in directories, os.File asks for each
	// entry beneath its own name, which has to lead here from our root.
	return os.NewFile(uintptr(fd), fmt.Sprintf("/proc/self/fd/%d", fd)), nil
}

// ReadDir returns the entries of a directory.
func (f rootFS) ReadDir(name string) ([]fs.DirEntry, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	dir, ok := file.(fs.ReadDirFile)
	if !ok {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
	}
	return dir.ReadDir(-1)
}

// Stat describes what name leads to.
func (f rootFS) Stat(name string) (fs.FileInfo, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return file.Stat()
}
