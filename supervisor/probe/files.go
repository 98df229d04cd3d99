package probe

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// tryProcfs looks whether /proc is a procfs that shows this process.
func tryProcfs(*machine) finding {
	if !isOn("/proc", unix.PROC_SUPER_MAGIC) {
		return no("no procfs on /proc")
	}
	if err := unix.Access("/proc/self/exe", unix.F_OK); err != nil {
		return no("/proc/self/exe: %v", err)
	}
	return yes("on /proc%s", hidepid())
}

// hidepid names the hidepid option of /proc (proc(5)), if it is on. The
// processes of a build are depguard's own and stay visible.
func hidepid() string {
	mounts, _ := mountsOf("proc")
	for _, m := range mounts {
		if m.point != "/proc" {
			continue
		}
		for option := range strings.SplitSeq(m.options, ",") {
			if value, ok := strings.CutPrefix(option, "hidepid="); ok && value != "0" && value != "off" {
				return ", other users' processes hidden (hidepid=" + value + ")"
			}
		}
	}
	return ""
}

// tryOpenat2 looks up the root directory under a root that can't be left.
func tryOpenat2(*machine) finding {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := unix.Openat2(unix.AT_FDCWD, ".", &how)
	if err != nil {
		return failure("openat2(RESOLVE_IN_ROOT)", err)
	}
	_ = unix.Close(fd)
	return yes("a lookup under another root")
}

// tryBirthTime asks for the birth time of the working directory (statx(2)):
// the build's own files are where inode numbers are reused.
func tryBirthTime(*machine) finding {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, ".", 0, unix.STATX_BTIME, &st); err != nil {
		return failure("statx", err)
	}
	if st.Mask&unix.STATX_BTIME == 0 {
		return no("the file system of the working directory keeps none")
	}
	return yes("statx gives it for the working directory")
}

// tryTerminal makes a pseudo-terminal and closes both ends.
func tryTerminal(*machine) finding {
	host, jail, err := pty.Open()
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return no("%v", err)
		}
		return failure("a new pseudo-terminal", err)
	}
	_ = host.Close()
	_ = jail.Close()
	return yes("opened one")
}

// tryDpkg looks for the database of installed packages.
func tryDpkg(*machine) finding {
	const status, lists = "/var/lib/dpkg/status", "/var/lib/dpkg/info"
	for _, name := range []string{status, lists} {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			return no("%s: not there", name)
		}
		if err != nil {
			return failure(name, err)
		}
		_ = f.Close()
	}
	return yes("%s and %s", status, lists)
}

// tryBTF reads the magic number of the kernel's type information.
func tryBTF(*machine) finding {
	const file, magic = "/sys/kernel/btf/vmlinux", 0xeb9f // struct btf_header, linux/btf.h
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		if !isOn("/sys", unix.SYSFS_MAGIC) {
			return unknown("not tried: no sysfs on /sys")
		}
		return no("%s: not there", file)
	}
	if err != nil {
		return failure(file, err)
	}
	defer func() { _ = f.Close() }()
	var start [2]byte
	if _, err := f.Read(start[:]); err != nil {
		return failure("read "+file, err)
	}
	if binary.NativeEndian.Uint16(start[:]) != magic {
		return unknown("%s does not begin like BTF", file)
	}
	return yes("%s", file)
}

// isOn reports whether name lies on a file system of the type whose magic
// number is given (statfs(2)).
func isOn(name string, magic int64) bool {
	var st unix.Statfs_t
	return unix.Statfs(name, &st) == nil && int64(st.Type) == magic
}

// tryLSM reads the list of active security modules. Being in the list is not
// yet being able to load a program; package bpf tries that.
func tryLSM(*machine) finding {
	const file = "/sys/kernel/security/lsm"
	list, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		found := unknown("%s: not there, securityfs may not be mounted", file)
		found.remedy = "mount -t securityfs securityfs /sys/kernel/security, then look again"
		return found
	}
	if err != nil {
		return failure(file, err)
	}
	modules := strings.Split(strings.TrimSpace(string(list)), ",")
	if !slices.Contains(modules, "bpf") {
		return no("active: %s", strings.Join(modules, ","))
	}
	return yes("active: %s", strings.Join(modules, ","))
}
