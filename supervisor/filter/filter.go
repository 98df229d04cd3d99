// Package filter says which system calls of the jail notify the supervisor,
// which are refused, and which pass: a Filter is a plain value. Compile turns
// it into a classic BPF program for every ABI that the machine runs, with
// libseccomp; nothing here installs it (supervisor/jail does, in the child).
//
// The program is small on purpose. A call that always passes costs nothing
// since Linux 5.11, which keeps a bitmap of such calls
// (kernel/seccomp.c, seccomp_cache_check_allow); close, fork, clone, wait,
// read and write are never filtered: a notification can be interrupted by a
// signal before it is received, and programs do not expect that of them.
package filter

import (
	"fmt"
	"os"
	"slices"

	seccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// Refusal is a system call that fails without asking anyone.
type Refusal struct {
	Name  string
	Errno unix.Errno
}

// Filter is what happens to the system calls of a jail. What it does not
// name passes.
type Filter struct {
	Notify []string
	Refuse []Refusal
}

// opens are the calls that open a file by name.
var opens = []string{"open", "openat", "openat2", "creat"}

// execs are the calls that execute one.
var execs = []string{"execve", "execveat"}

// roots are the calls after which a path may mean something else to the
// calling task than to the jail's first one. They are rare; the supervisor
// takes note and lets them go on.
var roots = []string{"chroot", "pivot_root", "setns", "mount", "umount2", "move_mount"}

// unfollowable are the calls that open files without a call that a
// notification could follow: io_uring performs opens in the kernel, and a file
// handle has no path.
var unfollowable = []string{"io_uring_setup", "open_by_handle_at"}

// newMounts are the calls of the mount API of Linux 5.2, which Landlock does not
// hold: a detached file system would not be seen in the jail's view, but its
// modes and owners are the host's.
var newMounts = []string{"fsopen", "fsmount", "fspick", "open_tree", "mount_setattr"}

// Observe is the filter of audit: everything goes ahead, opens, execs and
// connects are noted, and so is each use of a call that cannot be followed,
// because it makes the trace incomplete.
func Observe() Filter {
	return Filter{Notify: slices.Concat(opens, execs, roots, unfollowable, []string{"connect"})}
}

// Enforce is the filter of enforce: what cannot be followed, or held, is refused
// with the errno of a kernel that does not have it (ENOSYS), to which programs
// know the way round.
func Enforce() Filter {
	f := Filter{Notify: slices.Concat(opens, execs, roots, []string{"connect"})}
	for _, name := range slices.Concat(unfollowable, newMounts) {
		f.Refuse = append(f.Refuse, Refusal{name, unix.ENOSYS})
	}
	return f
}

// RefuseIOUring returns f with io_uring_setup refused instead of noted.
func (f Filter) RefuseIOUring() Filter {
	const name = "io_uring_setup"
	f.Notify = slices.DeleteFunc(slices.Clone(f.Notify), func(n string) bool { return n == name })
	if !slices.ContainsFunc(f.Refuse, func(r Refusal) bool { return r.Name == name }) {
		f.Refuse = append(slices.Clone(f.Refuse), Refusal{name, unix.ENOSYS})
	}
	return f
}

// Compile returns f as a seccomp program for all ABIs of this machine's
// architecture (on x86-64: x86-64, x32 and i386). A call of any other ABI
// fails with ENOSYS. The calls of a name that libseccomp does not know are an
// error: a hole is not a filter.
func (f Filter) Compile() ([]unix.SockFilter, error) {
	ctx, err := seccomp.NewFilter(seccomp.ActAllow)
	if err != nil {
		return nil, fmt.Errorf("libseccomp: %w", err)
	}
	defer ctx.Release()
	if err := addABIs(ctx); err != nil {
		return nil, err
	}
	// libseccomp's default for a foreign ABI kills the thread; a kernel
	// without that ABI answers ENOSYS.
	if err := ctx.SetBadArchAction(seccomp.ActErrno.SetReturnCode(int16(unix.ENOSYS))); err != nil {
		return nil, fmt.Errorf("libseccomp: action for foreign ABIs: %w", err)
	}
	for _, name := range f.Notify {
		if err := addRule(ctx, name, seccomp.ActNotify); err != nil {
			return nil, err
		}
	}
	for _, r := range f.Refuse {
		if err := addRule(ctx, r.Name, seccomp.ActErrno.SetReturnCode(int16(r.Errno))); err != nil {
			return nil, err
		}
	}
	return export(ctx)
}

// abis are the ABIs of each machine, native one first.
var abis = map[seccomp.ScmpArch][]seccomp.ScmpArch{
	seccomp.ArchAMD64: {seccomp.ArchAMD64, seccomp.ArchX32, seccomp.ArchX86},
	seccomp.ArchARM64: {seccomp.ArchARM64, seccomp.ArchARM},
}

func addABIs(ctx *seccomp.ScmpFilter) error {
	native, err := seccomp.GetNativeArch()
	if err != nil {
		return fmt.Errorf("libseccomp: native architecture: %w", err)
	}
	list, ok := abis[native]
	if !ok {
		return fmt.Errorf("the architecture %v is not supported: depguard knows x86-64 and arm64", native)
	}
	for _, abi := range list {
		if err := ctx.AddArch(abi); err != nil {
			return fmt.Errorf("libseccomp: add ABI %v: %w", abi, err)
		}
	}
	return nil
}

func addRule(ctx *seccomp.ScmpFilter, name string, action seccomp.ScmpAction) error {
	call, err := seccomp.GetSyscallFromName(name)
	if err != nil {
		return fmt.Errorf("libseccomp does not know the system call %s: %w", name, err)
	}
	if err := ctx.AddRule(call, action); err != nil {
		return fmt.Errorf("libseccomp: rule for %s: %w", name, err)
	}
	return nil
}

// export reads the program back out of libseccomp. ExportBPF writes to a
// descriptor; the variant that writes to memory needs libseccomp 2.6.
func export(ctx *seccomp.ScmpFilter) ([]unix.SockFilter, error) {
	fd, err := unix.MemfdCreate("depguard-filter", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), "depguard-filter")
	defer file.Close()
	if err := ctx.ExportBPF(file); err != nil {
		return nil, fmt.Errorf("libseccomp: export: %w", err)
	}
	program, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("read the exported filter: %w", err)
	}
	return Decode(program)
}
