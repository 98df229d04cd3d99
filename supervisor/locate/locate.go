// Package locate finds the file that a system call of the jail names, the way
// the kernel is about to, without opening it: stage 3 of the life of one open.
//
// A file is found by an O_PATH descriptor, which has no side effects on it and
// never blocks: a FIFO is not opened, a device not touched, a lease not broken
// (open(2)). What comes back is an identity and a canonical name. Where a file
// can't be located (magic links of /proc, a working directory that was
// deleted, a race) the answer is Unlocated, and the kernel's own answer is
// the only one.
//
// A path is made absolute first, against /proc/TID/cwd or /proc/TID/fd/N, and
// resolved beneath the jail's root directory in one openat2(2) with
// RESOLVE_IN_ROOT, so that absolute symbolic links and ".." mean what they mean
// to the task. All tasks of a jail have the same root until one of them calls
// chroot(2) or a relative; from then on (see Moved) every path is resolved
// from the task's own root and working directory.
package locate

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/allowlist"
)

// State says what a name led to.
type State uint8

// The outcomes of Locate.
const (
	// Unlocated: the name leads somewhere that an O_PATH descriptor of ours
	// does not show.
	Unlocated State = iota
	// Located: File holds the file.
	Located
	// Absent: no file has that name, or the way to it is not open to us.
	Absent
	// Creatable: no file has that name, but its directory exists, and the call
	// asked to create it.
	Creatable
)

// File is a located file. Release closes its descriptor.
type File struct {
	State State
	ID    allowlist.FileID
	Mode  uint32 // st_mode
	Asked []byte // the name as asked, made absolute where that can be; valid until the next Locate

	fd   int
	last []byte // Creatable: the name of the new file in its directory
}

// Directory reports whether the file is a directory.
func (f *File) Directory() bool { return f.Mode&unix.S_IFMT == unix.S_IFDIR }

// Regular reports whether the file is a regular file.
func (f *File) Regular() bool { return f.Mode&unix.S_IFMT == unix.S_IFREG }

// Name is what a call asked for.
type Name struct {
	TID      int
	Dir      int // descriptor number in the task, or unix.AT_FDCWD
	Path     []byte
	NoFollow bool   // the last component is not followed when it is a symbolic link
	Create   bool   // the call creates the file when it does not exist
	Empty    bool   // AT_EMPTY_PATH: an empty path means Dir itself
	Resolve  uint64 // RESOLVE_* of the call
}

// Locator finds files for one jail. It is used by one goroutine and reuses its
// buffers: what it returns is valid until its next call.
type Locator struct {
	root   int
	procfs [2]uint64 // st_dev of the jail's /proc and of ours
	moved  bool

	asked [2*unix.PathMax + 2]byte
	own   [2*unix.PathMax + 2]byte
	link  [unix.PathMax]byte
	path  [64]byte // names below /proc
}

// New returns a locator for the jail whose root directory is root as the
// caller sees it: "/", or "/proc/PID/root".
func New(root string) (*Locator, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the jail's root directory %s: %w", root, err)
	}
	l := &Locator{root: fd}
	for i, proc := range []string{root + "/proc", "/proc"} {
		var st unix.Stat_t
		if err := unix.Stat(proc, &st); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("look at %s: %w", proc, err)
		}
		l.procfs[i] = st.Dev
	}
	return l, nil
}

// Close closes the jail's root directory.
func (l *Locator) Close() error { return unix.Close(l.root) }

// Moved tells the locator that a task may have changed its root directory or
// its mounts.
func (l *Locator) Moved() { l.moved = true }

// Locate finds the file of n. A file with state Located has to be released.
func (l *Locator) Locate(n *Name, f *File) {
	*f = File{fd: -1}
	if len(n.Path) == 0 {
		if n.Empty {
			l.locateDescriptor(n, f)
		} else {
			f.State = Absent // ENOENT, path_resolution(7)
		}
		return
	}
	absolute := n.Resolve&unix.RESOLVE_IN_ROOT == 0 && l.makeAbsolute(n, f)
	if !absolute {
		f.Asked = terminate(append(l.asked[:0], n.Path...)) // as asked is all there is
	}
	if absolute && !l.moved {
		if own := l.ownProc(n.TID, f.Asked); own != nil {
			l.locateOwn(own, n, f)
			return
		}
		l.resolve(l.root, f.Asked, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS, n, f)
		return
	}
	base, ok := l.ownBase(n)
	if !ok {
		return
	}
	defer unix.Close(base)
	resolve := uint64(unix.RESOLVE_NO_MAGICLINKS) | n.Resolve&unix.RESOLVE_IN_ROOT
	if n.Path[0] == '/' {
		resolve |= unix.RESOLVE_IN_ROOT
	}
	l.resolve(base, n.Path, resolve, n, f)
}

// maxLinks is how many symbolic links the kernel follows for one path
// (path_resolution(7)).
const maxLinks = 40

// resolve finds the file of name below base. A call that creates what a dangling
// link names creates the link's target.
func (l *Locator) resolve(base int, name []byte, resolve uint64, n *Name, f *File) {
	for range maxLinks {
		fd, err := openPath(base, name, n.NoFollow, resolve)
		if err == nil {
			l.identify(fd, f)
			return
		}
		if !errors.Is(err, unix.ENOENT) || !n.Create {
			f.State = stateOf(err)
			return
		}
		target := danglingTarget(base, name, resolve)
		if n.NoFollow || target == nil {
			if fd, err = openPath(base, parent(name), false, resolve); err != nil {
				f.State = stateOf(err)
				return
			}
			f.State, f.fd = Creatable, fd
			f.last = append(f.last[:0], name[bytes.LastIndexByte(name, '/')+1:]...)
			return
		}
		if target[0] != '/' {
			target = slices.Concat(parent(name), []byte("/"), target)
		}
		name = terminate(target)
	}
}

// danglingTarget returns what the link of that name contains; nil when there is no
// such link.
func danglingTarget(base int, name []byte, resolve uint64) []byte {
	fd, err := openPath(base, name, true, resolve)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, "", buf[:])
	if err != nil || n == 0 {
		return nil
	}
	return bytes.Clone(buf[:n])
}

// stateOf sorts the errno of a failed resolution.
func stateOf(err error) State {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG),
		errors.Is(err, unix.EACCES): // with the task's own credentials, unless it changed them
		return Absent
	}
	return Unlocated // ELOOP is a magic link or a real loop, EAGAIN a race
}

// identify takes over fd. A file of procfs is left to its name: it is another
// one for each process that looks, and has another identity in each instance.
func (l *Locator) identify(fd int, f *File) {
	if err := statFD(fd, f); err != nil || slices.Contains(l.procfs[:], f.ID.Dev) {
		unix.Close(fd)
		*f = File{fd: -1, Asked: f.Asked}
		return
	}
	f.State, f.fd = Located, fd
}

// locateDescriptor finds the file behind a descriptor of the task (execveat(2)
// with AT_EMPTY_PATH). The link in /proc is a magic one: it leads to the file
// itself, whatever its name has become.
func (l *Locator) locateDescriptor(n *Name, f *File) {
	link := l.procLink(n)
	f.Asked = l.asked[:copy(l.asked[:], l.readLink(link))]
	fd, err := openPath(unix.AT_FDCWD, link, false, 0)
	if err != nil {
		return
	}
	l.identify(fd, f)
}

// Canonical returns the name of a located file without symbolic links; for a
// file that is about to be created, the canonical name of its directory and
// its own. It is valid until the next call on l. It is empty for a file that
// has no name: deleted, a pipe, a memfd.
func (l *Locator) Canonical(f *File) []byte {
	name := l.readLink(l.procName("/proc/self/fd/", f.fd, "", 0))
	if len(name) == 0 || name[0] != '/' || bytes.HasSuffix(name, deleted) && !l.leadsTo(name, f) {
		return nil
	}
	if f.State != Creatable {
		return name
	}
	last := f.last
	if len(last) == 0 || len(name)+1+len(last) > len(l.link) {
		return nil
	}
	end := len(name)
	if end == 1 {
		end = 0 // the directory is "/"
	}
	l.link[end] = '/'
	return l.link[:end+1+copy(l.link[end+1:], last)]
}

var deleted = []byte(" (deleted)") // what the kernel appends to the name of a file that has none

// leadsTo reports whether name, which may only look like a deleted file's, is f's.
func (l *Locator) leadsTo(name []byte, f *File) bool {
	fd, err := openPath(l.root, name, true, unix.RESOLVE_IN_ROOT)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var found File
	return statFD(fd, &found) == nil && found.ID == f.ID
}

// Release closes the descriptor of a located file. It may be called on any
// File, and twice.
func (f *File) Release() {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
}

// makeAbsolute sets f.Asked to n's path, made absolute against the directory
// that it is relative to.
func (l *Locator) makeAbsolute(n *Name, f *File) bool {
	if n.Path[0] == '/' {
		f.Asked = terminate(append(l.asked[:0], n.Path...))
		return true
	}
	dir := l.readLink(l.procLink(n))
	if len(dir) == 0 || dir[0] != '/' || bytes.HasSuffix(dir, deleted) {
		return false
	}
	asked := append(l.asked[:0], dir...)
	if dir[len(dir)-1] != '/' {
		asked = append(asked, '/')
	}
	f.Asked = terminate(append(asked, n.Path...))
	return true
}

// ownBase opens the directory from which the task itself resolves n.
func (l *Locator) ownBase(n *Name) (int, bool) {
	link := l.procLink(n)
	if n.Path[0] == '/' && n.Resolve&unix.RESOLVE_IN_ROOT == 0 {
		link = l.procName("/proc/", n.TID, "/root", -1)
	}
	fd, err := openPath(unix.AT_FDCWD, link, false, 0)
	return fd, err == nil
}

// procLink names the link of /proc that leads to the directory or descriptor
// n is relative to.
func (l *Locator) procLink(n *Name) []byte {
	if n.Dir == unix.AT_FDCWD {
		return l.procName("/proc/", n.TID, "/cwd", -1)
	}
	return l.procName("/proc/", n.TID, "/fd/", n.Dir)
}

// procName builds a name below /proc without allocating; last is left out
// when it is negative or middle is empty.
func (l *Locator) procName(prefix string, id int, middle string, last int) []byte {
	b := append(l.path[:0], prefix...)
	b = strconv.AppendInt(b, int64(id), 10)
	b = append(b, middle...)
	if middle != "" && last >= 0 {
		b = strconv.AppendInt(b, int64(last), 10)
	}
	return terminate(b)
}

// terminate puts a NUL behind b, in its buffer, so that b can be handed to
// the kernel without a copy.
func terminate(b []byte) []byte {
	b = append(b, 0)
	return b[:len(b)-1]
}

func (l *Locator) readLink(name []byte) []byte {
	n := readLink(name, l.link[:])
	return l.link[:n]
}

// ownNames are the names by which every task finds its own part of procfs, and
// where that part is from here: below /proc/TID.
var ownNames = []struct{ name, at string }{
	{"/proc/self", ""}, {"/proc/thread-self", ""},
	{"/dev/fd", "/fd"}, {"/dev/stdin", "/fd/0"}, {"/dev/stdout", "/fd/1"}, {"/dev/stderr", "/fd/2"},
	{"/etc/mtab", "/mounts"},
}

// ownProc returns where a name that leads into the task's own part of procfs
// leads from here, where "self" is someone else; nil for other names.
func (l *Locator) ownProc(tid int, asked []byte) []byte {
	name := asked
	if bytes.Contains(name, doubleSlash) || bytes.Contains(name, slashDot) {
		name = collapse(l.own[:0], name)
	}
	for _, o := range ownNames {
		rest, ok := bytes.CutPrefix(name, []byte(o.name)) // the compiler makes no copy
		if !ok || len(rest) > 0 && rest[0] != '/' {
			continue
		}
		// rest may lie in l.own, behind where the new name ends or moving down
		// in it: build the prefix elsewhere first.
		prefix := l.procName("/proc/", tid, o.at, -1)
		if len(prefix)+len(rest) >= len(l.link) {
			return nil
		}
		return terminate(append(append(l.link[:0], prefix...), rest...))
	}
	return nil
}

var doubleSlash, slashDot = []byte("//"), []byte("/./")

// collapse appends name to buf without empty and "." components.
func collapse(buf, name []byte) []byte {
	for component := range bytes.SplitSeq(name, []byte("/")) {
		if len(component) > 0 && string(component) != "." {
			buf = append(append(buf, '/'), component...)
		}
	}
	return buf
}

// locateOwn locates a file by a name below /proc/TID. It follows magic links: an
// O_PATH descriptor through one leads to the file itself and opens nothing.
func (l *Locator) locateOwn(own []byte, n *Name, f *File) {
	fd, err := openPath(unix.AT_FDCWD, own, n.NoFollow, 0)
	if err != nil {
		return
	}
	l.identify(fd, f)
}

// parent returns the directory part of name: "/" or "." when it has none.
func parent(name []byte) []byte {
	switch i := bytes.LastIndexByte(name, '/'); i {
	case -1:
		return []byte(".")
	case 0:
		return name[:1]
	default:
		return name[:i]
	}
}

// permittedToAll reports whether the mode grants op to everyone: the common case,
// told without a system call.
func permittedToAll(mode uint32, op policy.Access) bool {
	want := uint32(0)
	if op.Has(policy.Read) || op.Has(policy.List) {
		want |= unix.S_IROTH
	}
	if op.Has(policy.Write) {
		want |= unix.S_IWOTH
	}
	if op.Has(policy.Exec) {
		want |= unix.S_IXOTH
	}
	return mode&want == want
}

// Permitted reports whether ownership and modes would let the task use the
// file this way: a refusal of ours is only worth telling where the kernel would
// not have refused. It asks with our own credentials, which are the task's
// unless the task changed them; a read-only mount does not count.
func (l *Locator) Permitted(f *File, op policy.Access) bool {
	if f.State != Located && f.State != Creatable {
		return true // not to be told
	}
	if f.State == Located && permittedToAll(f.Mode, op) {
		return true
	}
	var mode uint32
	if op.Has(policy.Read) || op.Has(policy.List) {
		mode |= unix.R_OK
	}
	if op.Has(policy.Write) {
		mode |= unix.W_OK
	}
	if op.Has(policy.Exec) {
		mode |= unix.X_OK
	}
	if f.State == Creatable {
		mode = unix.W_OK | unix.X_OK // of the directory
	}
	err := unix.Faccessat2(f.fd, "", mode, unix.AT_EMPTY_PATH|unix.AT_EACCESS)
	return !errors.Is(err, unix.EACCES)
}
