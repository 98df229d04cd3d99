package jail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// buildView turns this mount namespace into what the jail sees: the host
// read-only, Writable as it is, /tmp, /var/tmp, /run, /dev and /proc private.
//
// What is to stay writable is cloned first (open_tree(2)), because a clone
// keeps the flags of the moment; then everything becomes read-only in one call
// (mount_setattr(2), Linux 5.12), the private file systems are mounted, and
// the clones are moved to where they came from. Nothing propagates to the host.
func buildView(c *Config) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w: %s", err, explainNamespaces())
	}
	writable, err := cloneAll(c.Writable, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return err
	}
	// Read-only keeps owners and modes, which are the host's; a device is
	// written to all the same.
	devices, err := cloneAll(existing(deviceNodes), unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return err
	}
	readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &readOnly); err != nil {
		return fmt.Errorf("make the host read-only (mount_setattr, Linux 5.12): %w", err)
	}
	if err := mountPrivate(); err != nil {
		return err
	}
	if err := mountDevices(devices); err != nil {
		return err
	}
	for _, w := range writable {
		if err := w.attach(w.path); err != nil {
			return err
		}
	}
	// Only now: a workspace may lie below one of them.
	for _, dir := range existing([]string{"/dev", "/run"}) {
		seal := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, dir, 0, &seal); err != nil {
			return fmt.Errorf("make %s read-only: %w", dir, err)
		}
	}
	return maskAll(c.Masks)
}

// clone is a detached copy of the mount at path and of those below it.
type clone struct {
	path string
	fd   int
	dir  bool
}

// cloneAll clones the mounts at paths and sets attributes on them, outer
// directories first.
func cloneAll(paths []string, attributes uint64) ([]clone, error) {
	var clones []clone
	for _, path := range slices.Sorted(slices.Values(paths)) {
		fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return nil, fmt.Errorf("clone the mount of %s: %w", path, err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return nil, fmt.Errorf("stat %s: %w", path, err)
		}
		attr := unix.MountAttr{Attr_set: attributes}
		if st.Mode&unix.S_IFMT == unix.S_IFCHR {
			attr.Attr_set &^= unix.MOUNT_ATTR_NODEV // a device that is granted by name
		}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
			return nil, fmt.Errorf("restrict the mount of %s: %w", path, err)
		}
		clones = append(clones, clone{path, fd, st.Mode&unix.S_IFMT == unix.S_IFDIR})
	}
	return clones, nil
}

// attach mounts c at path. What is missing on the way, below a private file
// system, is made.
func (c *clone) attach(path string) error {
	if err := makeMountPoint(path, c.dir); err != nil {
		return err
	}
	if err := unix.MoveMount(c.fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s in the jail: %w", path, err)
	}
	return unix.Close(c.fd)
}

func makeMountPoint(path string, dir bool) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if dir {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o600)
}

// mountPrivate mounts the file systems that the jail has to itself.
func mountPrivate() error {
	// procfs shows the processes of the pid namespace of who mounts it.
	const procFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("proc", "/proc", "proc", procFlags, ""); err != nil {
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("mount the jail's own /proc: %w: parts of this machine's /proc are covered by other mounts, as in a container; the kernel then forbids a new one (run the container with an unmasked /proc)", err)
		}
		return fmt.Errorf("mount the jail's own /proc: %w", err)
	}
	if err := protectKernelSettings(); err != nil {
		return err
	}
	for _, dir := range existing([]string{"/tmp", "/var/tmp"}) {
		if err := mountTmpfs(dir, "mode=1777"); err != nil {
			return err
		}
	}
	return mountRun()
}

// resolverFiles are where /etc/resolv.conf leads on machines that manage it.
var resolverFiles = []string{
	"/run/systemd/resolve/resolv.conf", "/run/systemd/resolve/stub-resolv.conf",
	"/run/NetworkManager/resolv.conf", "/run/resolvconf/resolv.conf",
}

// mountRun mounts an empty /run: there the sockets of the host's services lie, and
// neither a read-only mount nor Landlock keeps anybody from connecting to one.
func mountRun() error {
	if len(existing([]string{"/run"})) == 0 {
		return nil
	}
	files, err := cloneAll(existing(resolverFiles), unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	if err := mountTmpfs("/run", "mode=755"); err != nil {
		return err
	}
	for _, f := range files {
		if err := f.attach(f.path); err != nil {
			return err
		}
	}
	return nil
}

// protectKernelSettings makes all of procfs that is not a process read-only. It
// belongs to the whole machine, modes and owners included, and much of it takes
// writes from whoever has the user id of the machine's root, which a root user's
// jail maps, without asking for a capability (proc_sys(5)).
func protectKernelSettings() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	var settings []string
	for _, entry := range entries {
		if name := entry.Name(); entry.Type()&os.ModeSymlink == 0 && strings.Trim(name, "0123456789") != "" {
			settings = append(settings, "/proc/"+name)
		}
	}
	clones, err := cloneAll(settings, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return err
	}
	for _, c := range clones {
		if err := c.attach(c.path); err != nil {
			return err
		}
	}
	return nil
}

func mountTmpfs(dir, options string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount a private %s: %w", dir, err)
	}
	return nil
}

// deviceNodes are the devices of the jail. A user namespace cannot make
// devices, so the host's are mounted one by one.
var deviceNodes = []string{"/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"}

// deviceLinks are the links that every /dev has.
var deviceLinks = []struct{ name, target string }{
	{"/dev/fd", "/proc/self/fd"},
	{"/dev/stdin", "/proc/self/fd/0"},
	{"/dev/stdout", "/proc/self/fd/1"},
	{"/dev/stderr", "/proc/self/fd/2"},
	{"/dev/ptmx", "pts/ptmx"},
}

// mountDevices mounts a /dev of the jail's own: the devices, terminals of its
// own, shared memory of its own.
func mountDevices(devices []clone) error {
	if err := mountTmpfs("/dev", "mode=755"); err != nil {
		return err
	}
	for _, d := range devices {
		if err := d.attach(d.path); err != nil {
			return err
		}
	}
	for _, l := range deviceLinks {
		if err := os.Symlink(l.target, l.name); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/dev/pts", "/dev/shm"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return fmt.Errorf("mount the jail's own /dev/pts: %w", err)
	}
	return mountTmpfs("/dev/shm", "mode=1777")
}

// maskAll mounts an empty, unreadable file or directory over each path.
func maskAll(masks []Mask) error {
	for i, m := range masks {
		if _, err := os.Lstat(m.Path); errors.Is(err, os.ErrNotExist) {
			continue // it lay in the host's /tmp, which the jail does not have
		}
		if m.Directory {
			if err := unix.Mount("tmpfs", m.Path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_RDONLY, "mode=000"); err != nil {
				return fmt.Errorf("mask %s: %w", m.Path, err)
			}
			continue
		}
		if err := maskFile(m.Path, fmt.Sprintf("/dev/shm/depguard-mask-%d", i)); err != nil {
			return fmt.Errorf("mask %s: %w", m.Path, err)
		}
	}
	return nil
}

// maskFile mounts an empty file of mode 000 over path. The file is made under a
// passing name, cloned, and unlinked.
func maskFile(path, passing string) error {
	fd, err := unix.Open(passing, unix.O_CREAT|unix.O_EXCL|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	unix.Close(fd)
	tree, err := unix.OpenTree(unix.AT_FDCWD, passing, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return err
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	return unix.Unlink(passing)
}

func existing(paths []string) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(path string) bool {
		_, err := os.Lstat(path)
		return err != nil
	})
}

// CheckWorkspace says why dir, an absolute path without symbolic links, cannot
// be a workspace.
func CheckWorkspace(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("workspace: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("workspace: %s is not a directory", dir)
	}
	for _, taken := range []string{"/", "/proc", "/dev"} {
		if dir == taken || (taken != "/" && strings.HasPrefix(dir, taken+"/")) {
			return fmt.Errorf("workspace: %s cannot be one: choose the directory that the build writes to", dir)
		}
	}
	return nil
}
