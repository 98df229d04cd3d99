// Package inroot names files beneath a root directory that need not be this
// process's own: a chroot, or /proc/PID/root of a jail.
//
// A name is resolved in two steps. [Root.Canonical] reads the symbolic links
// on the way and gives the one name without any, absolute links starting
// again at the root, as they would for a process that lives there.
// [Root.Open] then opens that name, and refuses when a link has appeared on
// it in the meantime: what is opened is always beneath the root, whatever is
// being renamed there, and the kernel vouches for it (openat2(2)
// RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, Linux 5.6).
package inroot

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links one name may lead through, the limit
// of the kernel's own walk (path_resolution(7)).
const maxLinks = 40

// Root is a directory that names start from. It remembers the links that it
// has read, so it is for one pass over a tree that holds still. It is not
// for use by several goroutines at once.
type Root struct {
	fd   int
	seen map[string]resolved // canonical directory + one component -> what that is
	buf  [unix.PathMax]byte
}

// resolved is what one step of a walk led to.
type resolved struct {
	name string
	err  error
}

// New opens dir as a root. The caller closes it.
func New(dir string) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open root", Path: dir, Err: err}
	}
	return &Root{fd: fd, seen: make(map[string]resolved)}, nil
}

// Close closes the root's descriptor.
func (r *Root) Close() error { return unix.Close(r.fd) }

// Canonical returns the name of the file that name leads to beneath the
// root, every symbolic link followed, the last one too: absolute, clean,
// without links. It fails with ENOENT, ENOTDIR, ELOOP … as open(2) would.
func (r *Root) Canonical(name string) (string, error) {
	links := 0
	c, err := r.walk("/", name, &links)
	if err != nil {
		return "", &fs.PathError{Op: "resolve", Path: name, Err: err}
	}
	return c, nil
}

// walk follows rest, component by component, from the canonical name cur.
func (r *Root) walk(cur, rest string, links *int) (string, error) {
	if len(rest) >= unix.PathMax {
		return "", unix.ENAMETOOLONG
	}
	for rest != "" {
		var comp string
		comp, rest, _ = strings.Cut(rest, "/")
		switch comp {
		case "", ".":
		case "..":
			cur = path.Dir(cur) // the root's own parent is the root
		default:
			next, err := r.step(cur, comp, links)
			if err != nil {
				return "", err
			}
			cur = next
		}
	}
	return cur, nil
}

// step resolves one component in the canonical directory dir.
func (r *Root) step(dir, comp string, links *int) (string, error) {
	full := Join(dir, comp)
	if s, ok := r.seen[full]; ok {
		return s.name, s.err
	}
	name, err := full, error(nil)
	n, rerr := unix.Readlinkat(r.fd, full[1:], r.buf[:])
	switch {
	case rerr == nil:
		if *links++; *links > maxLinks {
			return "", unix.ELOOP // not remembered: it depends on the way here
		}
		target := string(r.buf[:n])
		if strings.HasPrefix(target, "/") {
			dir = "/"
		}
		name, err = r.walk(dir, target, links)
	case rerr != unix.EINVAL: // EINVAL: there, and not a link
		err = rerr
	}
	if err != unix.ELOOP {
		r.seen[full] = resolved{name, err}
	}
	return name, err
}

// Open opens the file with the canonical name beneath the root, with
// O_CLOEXEC and the given flags. It fails with ELOOP when a symbolic link
// stands anywhere on the name, and its last component, too.
func (r *Root) Open(canonical string, flags int) (int, error) {
	rel := strings.TrimPrefix(canonical, "/")
	if rel == "" {
		rel = "."
	}
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	for {
		fd, err := unix.Openat2(r.fd, rel, &how)
		switch err {
		case nil:
			return fd, nil
		case unix.EINTR, unix.EAGAIN: // EAGAIN: a rename raced with the check for ".."
			continue
		case unix.ENOSYS:
			return -1, &fs.PathError{Op: "openat2", Path: canonical,
				Err: fmt.Errorf("%w: it needs Linux 5.6, or a container runtime that lets it through", err)}
		}
		return -1, &fs.PathError{Op: "openat2", Path: canonical, Err: err}
	}
}

// Join appends one component to a canonical directory.
func Join(dir, comp string) string {
	if dir == "/" {
		return "/" + comp
	}
	return dir + "/" + comp
}

// Split cuts a canonical name into its directory and its last component,
// which is empty for the root alone.
func Split(canonical string) (dir, base string) {
	i := strings.LastIndexByte(canonical, '/')
	if i <= 0 {
		return "/", canonical[i+1:]
	}
	return canonical[:i], canonical[i+1:]
}

// Within reports whether name is dir or lies beneath it, by whole
// components: /usr/lib64 is not within /usr/lib. Both are canonical.
func Within(name, dir string) bool {
	if dir == "/" {
		return true
	}
	return strings.HasPrefix(name, dir) && (len(name) == len(dir) || name[len(dir)] == '/')
}
