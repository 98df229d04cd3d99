package jail

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// isolate asks for namespaces of the jail's own. The user namespace comes
// first among them, for root too: every capability in the jail counts only
// within it, and reaches no device, mount or task outside.
func isolate(attr *syscall.SysProcAttr, noNetwork bool) error {
	attr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	if noNetwork {
		attr.Cloneflags |= unix.CLONE_NEWNET
	}
	if os.Geteuid() != 0 {
		// Exec takes the capabilities of a new user namespace from every user
		// but root; ambient ones stay (capabilities(7)).
		attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP, unix.CAP_NET_ADMIN}
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		return nil
	}
	var err error
	if attr.UidMappings, err = identityMap("/proc/self/uid_map"); err != nil {
		return err
	}
	if attr.GidMappings, err = identityMap("/proc/self/gid_map"); err != nil {
		return err
	}
	attr.GidMappingsEnableSetgroups = maySetGroups()
	return nil
}

// maySetGroups reports whether setgroups(2) is allowed in our own user
// namespace: where it is not, as in a rootless container, a namespace below
// cannot allow it either (user_namespaces(7)).
func maySetGroups() bool {
	state, err := os.ReadFile("/proc/self/setgroups")
	return err == nil && strings.TrimSpace(string(state)) == "allow"
}

// identityMap maps every id that exists in our own user namespace to itself
// (user_namespaces(7)): root's builds change owners as they do outside.
func identityMap(name string) ([]syscall.SysProcIDMap, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the id map of this user namespace: %w", err)
	}
	var ids []syscall.SysProcIDMap
	for line := range bytes.Lines(data) {
		var inside, outside, count int
		if _, err := fmt.Sscan(string(line), &inside, &outside, &count); err != nil {
			return nil, fmt.Errorf("%s: line %q: %w", name, line, err)
		}
		ids = append(ids, syscall.SysProcIDMap{ContainerID: inside, HostID: inside, Size: count})
	}
	return ids, nil
}

// limits are the switches by which a system forbids user namespaces, and what
// to do about each.
var limits = []struct{ file, forbids, remedy string }{
	{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"},
	{"/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for depguard that allows userns"},
}

// explainNamespaces says which switch forbids namespaces here, if one does.
func explainNamespaces() string {
	for _, l := range limits {
		value, err := os.ReadFile(l.file)
		if err == nil && strings.TrimSpace(string(value)) == l.forbids {
			return fmt.Sprintf("%s is %s; to allow them: %s", l.file, l.forbids, l.remedy)
		}
	}
	return "a container's seccomp profile or a chroot forbids them; `depguard doctor` tells more"
}

func explainStart(err error, c *Config) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("start the jail: /proc/self/exe: %w: depguard needs /proc mounted", err)
	}
	if c.Isolate && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS) || errors.Is(err, unix.EACCES)) {
		return fmt.Errorf("make the jail's namespaces: %w: %s", err, explainNamespaces())
	}
	return fmt.Errorf("start the jail: %w", err)
}

// raiseLoopback sets the loopback interface of a fresh network namespace up.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("BUG: %w", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
		return fmt.Errorf("get the flags of lo: %w", err)
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}
