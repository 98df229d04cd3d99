// Package owner answers which installed package a file belongs to, and which
// files a package has, from the package manager's own database.
//
// Each manager is one reader behind [DB], chosen by [Open]. A reader parses
// the database's text itself: no manager is started, nothing is locked,
// nothing is written, and a database beneath another root reads like the
// machine's own. The files are input from outside like any other: what can't
// be understood is an error with file and line.
//
// Names in a package's list are not the names of files. With a merged /usr
// the list says /lib/x86_64-linux-gnu/libc.so.6 and every process that opens
// it sees /usr/lib/x86_64-linux-gnu/libc.so.6; an administrator may have
// replaced a directory by a symbolic link; a diversion moves one package's
// file out of the way of another's. [DB.Owners] therefore compares canonical
// names, with the directories as they are now.
package owner

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Package is one installed package, in one architecture.
type Package struct {
	Name      string
	Arch      string // "amd64", "all"
	Version   string
	Essential bool // the manager refuses to remove it; a build may count on it

	foreign bool
}

// ID returns the name under which a policy declares the package: the bare
// name in the machine's own architecture or in none, "libc6:i386" otherwise.
func (p Package) ID() string {
	if p.foreign {
		return p.Name + ":" + p.Arch
	}
	return p.Name
}

// DB is one machine's package database as it was when it was opened. Its
// methods may be called by several goroutines at once.
type DB interface {
	// Manager returns the name by which [Open] knows this kind of database.
	Manager() string

	// Lookup finds an installed package by its ID. The machine's own
	// architecture may be spelled out, and a foreign one left out when the
	// package is installed in no other.
	Lookup(name string) (Package, bool)

	// Names returns the IDs of all installed packages, sorted.
	Names() []string

	// Essential returns the IDs of the packages that the manager calls
	// essential, sorted.
	Essential() []string

	// Closure returns the IDs of the named packages and of all that they
	// depend on, directly or not, sorted. Names that are not installed are
	// left out. Of alternatives the first that is installed counts; of a
	// virtual package every installed provider does, because which one is
	// used is decided elsewhere (update-alternatives).
	Closure(names []string) []string

	// Files returns the paths a package has put on the machine, as its list
	// spells them, diversions applied, directories included. Some may since
	// have been removed. It fails for an ID that is not installed and for a
	// list that can't be read or understood.
	Files(id string) ([]string, error)

	// Owners returns for each of the canonical absolute paths the IDs of
	// the packages that own it, sorted. Paths that no package owns are not
	// in the map. Directories are found under the names that lists give
	// them.
	Owners(paths []string) (map[string][]string, error)
}

// ErrNoDatabase is what [Open] fails with when there is no database of the
// kind that was asked for. A machine without one has no packages to declare.
var ErrNoDatabase = errors.New("no package database")

// reader is one kind of database.
type reader struct {
	manager string
	mark    string // the file, beneath the root, that tells that it is there
	open    func(root string) (DB, error)
}

var readers = []reader{
	{"dpkg", dpkgStatus, openDpkg},
}

// Open reads the database of a package manager ("dpkg") beneath root, or
// with "auto" (or the empty string) of the first that has one. It fails with
// [ErrNoDatabase] when nothing is there, saying where it looked.
func Open(root, manager string) (DB, error) {
	var looked []string
	known := false
	for _, r := range readers {
		if manager != r.manager && manager != "auto" && manager != "" {
			continue
		}
		known = true
		mark := filepath.Join(root, r.mark)
		if _, err := os.Stat(mark); err == nil {
			return r.open(root)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the %s database: %w", r.manager, err)
		}
		looked = append(looked, fmt.Sprintf("%s (%s)", mark, r.manager))
	}
	if !known {
		return nil, fmt.Errorf("unknown package manager %q: use auto or dpkg", manager)
	}
	return nil, fmt.Errorf("%w: looked for %q; on a machine without packages, leave packages out of the policy", ErrNoDatabase, looked)
}

// SyntaxError is a database file that can't be understood.
type SyntaxError struct {
	File string
	Line int // counts from 1
	Text string
}

// Error returns "file:line: what is wrong".
func (e *SyntaxError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text) }

// maxFile bounds the memory that one database file can take. The largest
// real ones are a few MiB.
const maxFile = 256 << 20

// readFile appends the content of a regular file to buf. Anything else under
// that name is refused unopened for reading: a FIFO would block for ever.
func readFile(name string, buf []byte) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return buf, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return buf, err
	}
	if !st.Mode().IsRegular() {
		return buf, fmt.Errorf("read %s: it is not a regular file", name)
	}
	if st.Size() > maxFile {
		return buf, fmt.Errorf("read %s: %d bytes are more than a package database has (limit %d)", name, st.Size(), maxFile)
	}
	if n := int(st.Size()) + 1; cap(buf)-len(buf) < n { // one more, so that the end is seen without growing
		buf = append(make([]byte, 0, len(buf)+n), buf...)
	}
	limit := io.LimitReader(f, maxFile) // it may grow while it is read
	for {
		n, err := limit.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}
