package probe

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// jailReport is what a small jail found out: whether it could be started, and
// what its inside reported.
type jailReport struct {
	userErr error // clone(CLONE_NEWUSER), with the id map written
	pidErr  error // CLONE_NEWPID beside it
	lost    error // it started but did not report
	whole   bool  // the id map covers every id of this user namespace
	inside  insideReport
}

// insideReport is what the child found out in its namespaces.
type insideReport struct {
	Mount, IPCUTS, Network, Proc, ReadOnly, Overlay step
}

// step is one thing tried inside. The zero step was not tried.
type step struct {
	Tried bool
	Call  string     // what failed; empty when it worked
	Errno unix.Errno // 0 when the call was answered, but wrongly
}

// tryJail starts a child in its own user and pid namespaces. When that is
// refused it tries the user namespace alone, to tell which of the two it was.
func tryJail(ctx context.Context) (r jailReport) {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWPID}
	r.whole = mapIDs(attr)
	kid, err := startChild(ctx, "namespaces", attr)
	if err != nil {
		r.pidErr = err
		attr.Cloneflags = unix.CLONE_NEWUSER
		kid, r.userErr = startChild(ctx, "namespaces", attr)
	}
	if r.userErr != nil {
		return r
	}
	r.lost = kid.hearJSON(&r.inside)
	if err := kid.finish(); err != nil {
		r.lost = err
	}
	return r
}

// mapIDs maps ids into the jail: root maps every id that this user namespace
// has, anyone else the one they have. That one is 0 inside, because exec takes
// the capabilities in the namespace from any other id (capabilities(7)).
func mapIDs(attr *syscall.SysProcAttr) (whole bool) {
	if os.Geteuid() == 0 {
		attr.UidMappings = identity("/proc/self/uid_map")
		attr.GidMappings = identity("/proc/self/gid_map")
		attr.GidMappingsEnableSetgroups = maySetGroups()
		whole = attr.UidMappings != nil && attr.GidMappings != nil
	}
	if !whole {
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
		attr.GidMappingsEnableSetgroups = false
	}
	return whole
}

// maySetGroups reports whether setgroups(2) is allowed in this user namespace.
// Where it is not, as in one that an ordinary user made, no namespace below can
// allow it again, and writing so to its setgroups file is EPERM
// (user_namespaces(7)).
func maySetGroups() bool {
	value, err := os.ReadFile("/proc/self/setgroups")
	return err == nil && strings.TrimSpace(string(value)) == "allow"
}

// identity maps each id of this user namespace to itself. It returns nil when
// the file can't be read.
func identity(file string) []syscall.SysProcIDMap {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	return parseIDMap(f)
}

// maxIDMapLines is how many lines the kernel takes (user_namespaces(7): 340
// since Linux 4.15).
const maxIDMapLines = 340

// parseIDMap reads a uid_map or gid_map file (user_namespaces(7)) and returns
// the identity map of the ids it gives this namespace. Lines that are no map
// are left out.
func parseIDMap(r io.Reader) []syscall.SysProcIDMap {
	var ids []syscall.SysProcIDMap
	lines := bufio.NewScanner(r)
	for lines.Scan() && len(ids) < maxIDMapLines {
		var inside, outside, size int
		if n, _ := fmt.Sscan(lines.Text(), &inside, &outside, &size); n == 3 && inside >= 0 && size > 0 {
			ids = append(ids, syscall.SysProcIDMap{ContainerID: inside, HostID: inside, Size: size})
		}
	}
	return ids
}

// playNamespaces reports what can be done inside, as JSON. Each namespace is
// made here, on this thread, just before it is changed, so that a child
// started by hand outside a jail changes nothing but its own.
func playNamespaces() {
	runtime.LockOSThread() // unshare(2) moves the calling thread only
	var report insideReport
	report.Mount = attempt(ownMounts)
	report.IPCUTS = attempt(ownQueuesAndName)
	report.Network = attempt(ownLoopback)
	if report.Mount.worked() {
		report.ReadOnly = attempt(readOnlyTree)
		report.Proc = attempt(freshProc)
		report.Overlay = attempt(hideInOverlay)
	}
	_ = json.NewEncoder(os.Stdout).Encode(report)
}

// attempt carries out one step and keeps how it failed.
func attempt(try func() (call string, err error)) step {
	call, err := try()
	if err == nil {
		return step{Tried: true}
	}
	failed := step{Tried: true, Call: call}
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		failed.Errno = errno
	}
	return failed
}

func (s step) worked() bool { return s.Tried && s.Call == "" }

// ownMounts leaves the mounts of the host to the host.
func ownMounts() (string, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return "unshare(CLONE_NEWNS)", err
	}
	return "mount(/, MS_PRIVATE|MS_REC)", unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "")
}

// ownQueuesAndName changes a host name that is not the host's.
func ownQueuesAndName() (string, error) {
	if err := unix.Unshare(unix.CLONE_NEWIPC); err != nil {
		return "unshare(CLONE_NEWIPC)", err
	}
	if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
		return "unshare(CLONE_NEWUTS)", err
	}
	return "sethostname", unix.Sethostname([]byte("jail"))
}

// ownLoopback brings up the loopback of a network that has nothing else.
func ownLoopback() (string, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return "unshare(CLONE_NEWNET)", err
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "socket(AF_INET)", err
	}
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		return "the name lo", err
	}
	loopback.SetUint16(unix.IFF_UP)
	return "ioctl(SIOCSIFFLAGS, lo)", unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback)
}

// readOnlyTree makes a copy of every mount read-only in one call.
func readOnlyTree() (string, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.AT_RECURSIVE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return "open_tree(/, OPEN_TREE_CLONE|AT_RECURSIVE)", err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
	if err == nil {
		err = unix.Close(tree)
	}
	return "mount_setattr(MOUNT_ATTR_RDONLY)", err
}

// freshProc mounts the procfs of the jail's own pid namespace. The kernel
// refuses one that would show more than the mounts already there
// (mount_namespaces(7)), as under a container's masked /proc.
func freshProc() (string, error) {
	if os.Getpid() != 1 {
		return "own pid namespace", unix.ESRCH
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return "mount(procfs)", err
	}
	self, err := os.Readlink("/proc/self")
	if err == nil && self != "1" {
		err = fmt.Errorf("names process %s", self)
	}
	return "readlink(/proc/self)", err
}

// hideInOverlay lays a whiteout over a file and looks whether it is gone. It
// works in a tmpfs on /proc, the one directory that is sure to be there: this
// executable was started through it.
func hideInOverlay() (string, error) {
	const base = "/proc/"
	if err := unix.Mount("tmpfs", base, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700"); err != nil {
		return "mount(tmpfs)", err
	}
	for _, dir := range []string{"host", "hide", "view"} {
		if err := unix.Mkdir(base+dir, 0o700); err != nil {
			return "mkdir in a tmpfs", err
		}
	}
	if err := unix.Mknod(base+"host/file", unix.S_IFREG|0o600, 0); err != nil {
		return "mknod(S_IFREG) in a tmpfs", err
	}
	if err := unix.Mknod(base+"hide/file", unix.S_IFCHR, 0); err != nil { // a whiteout: 0/0, free to make since Linux 5.8
		return "mknod(whiteout)", err
	}
	if err := unix.Mount("overlay", base+"view", "overlay", unix.MS_RDONLY, "userxattr,lowerdir="+base+"hide:"+base+"host"); err != nil {
		return "mount(overlay, userxattr)", err
	}
	var st unix.Stat_t
	if err := unix.Stat(base+"view/file", &st); !errors.Is(err, unix.ENOENT) {
		return "stat of a hidden file", errors.Join(err, errors.New("it shows"))
	}
	return "", nil
}

// user says whether a user namespace can be had, with ids mapped.
func (r jailReport) user() finding {
	switch {
	case errors.Is(r.userErr, unix.ENOENT):
		return unknown("not tried: this executable can't be run again: no /proc/self/exe")
	case r.userErr != nil:
		return userRefused(r.userErr)
	case r.whole:
		return yes("every id mapped")
	}
	return yes("your own id mapped")
}

// userRefused names the setting that refuses user namespaces, when one does.
func userRefused(err error) finding {
	found := failure("clone(CLONE_NEWUSER) and its id map", err)
	if setting, remedy := userSetting(); setting != "" {
		found.detail += ", " + setting
		found.remedy = remedy
	}
	return found
}

// userSetting returns the kernel parameter that keeps this user from using
// user namespaces, and how to change it; empty strings when none does.
func userSetting() (setting, remedy string) {
	for _, s := range []struct{ name, off, on string }{
		{"kernel.unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"user.max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=10000"},
		{"kernel.apparmor_restrict_unprivileged_userns", "1", "an AppArmor profile for depguard with the rule `userns,`, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
	} {
		if sysctl(s.name) == s.off {
			return s.name + " is " + s.off, s.on
		}
	}
	return "", ""
}

// pid says whether a pid namespace can be had beside the user namespace.
func (r jailReport) pid() finding {
	if r.userErr != nil {
		return unknown("not tried: no user namespace")
	}
	if r.pidErr != nil {
		return failure("clone(CLONE_NEWPID)", r.pidErr)
	}
	return yes("the jail's first process is its pid 1")
}

// step is the finding about something tried inside.
func (r jailReport) step(works string, s step) finding {
	switch {
	case r.userErr != nil:
		return unknown("not tried: no user namespace")
	case r.lost != nil:
		return unknown("the trial's jail did not report: %v", r.lost)
	case !s.Tried:
		return unknown("not tried: no mount namespace")
	case s.worked():
		return yes("%s", works)
	case s.Errno == 0:
		return no("%s gave a wrong answer", s.Call)
	}
	found := failure(s.Call, s.Errno)
	if setting, remedy := userSetting(); setting != "" {
		found.detail += ", " + setting
		found.remedy = remedy
	}
	return found
}

// proc is the finding about the jail's own procfs: it needs a pid namespace.
func (r jailReport) proc() finding {
	if r.userErr == nil && r.pidErr != nil {
		return unknown("not tried: no pid namespace")
	}
	return r.step("the jail's processes only", r.inside.Proc)
}
