package probe

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// expectation is what a feature must come out as in a hostile place.
type expectation struct {
	outcome Outcome
	text    string // part of the detail or of the remedy
}

// hostilePlaces are surroundings in which depguard is started and finds less
// than it needs. Each was seen on real machines: containers, chroots, hardened
// distributions, old kernels.
var hostilePlaces = map[string]struct {
	flags          uintptr      // namespaces of the place's own, in which it is root
	spoil          func() error // runs in the place, before anything is tried
	want           map[string]expectation
	audit, enforce bool // possible
}{
	"nothing wrong": {
		spoil: func() error { return nil },
		want:  map[string]expectation{"landlock": {Yes, "ABI"}},
		audit: true, enforce: true,
	},
	"no procfs": {
		flags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		spoil: func() error { return unix.Mount("tmpfs", "/proc", "tmpfs", 0, "") },
		want: map[string]expectation{
			"procfs":                   {No, "mount -t proc"},
			"user namespace":           {Unknown, "no /proc/self/exe"},
			"pid namespace":            {Unknown, "no user namespace"},
			"reading a child's memory": {Unknown, "no child process"},
			"cgroup v2":                {Unknown, "mountinfo"},
			"landlock":                 {Yes, "ABI"},
		},
	},
	"chroot with nothing mounted": {
		flags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		spoil: bareChroot,
		want: map[string]expectation{
			"procfs":              {No, "no procfs on /proc"},
			"user namespace":      {No, "chroot"},
			"pseudo-terminal":     {No, "devpts"},
			"BTF of the kernel":   {Unknown, "no sysfs"},
			"bpf in the LSM list": {Unknown, "securityfs"},
			"dpkg database":       {Yes, "/var/lib/dpkg"},
		},
	},
	"user namespaces switched off": {
		flags: unix.CLONE_NEWUSER,
		spoil: func() error { return os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0) },
		want: map[string]expectation{
			"user namespace":           {No, "sysctl -w user.max_user_namespaces"},
			"mount namespace":          {Unknown, "no user namespace"},
			"fresh procfs in the jail": {Unknown, "no user namespace"},
			"landlock":                 {Yes, "ABI"},
		},
		audit: true,
	},
	"pid namespaces switched off": {
		flags: unix.CLONE_NEWUSER,
		spoil: func() error { return os.WriteFile("/proc/sys/user/max_pid_namespaces", []byte("0"), 0) },
		want: map[string]expectation{
			"user namespace":           {Yes, ""},
			"pid namespace":            {No, "ENOSPC"},
			"mount namespace":          {Yes, ""},
			"fresh procfs in the jail": {Unknown, "no pid namespace"},
		},
		audit: true,
	},
	"network namespaces switched off": {
		flags: unix.CLONE_NEWUSER,
		spoil: func() error { return os.WriteFile("/proc/sys/user/max_net_namespaces", []byte("0"), 0) },
		want:  map[string]expectation{"network namespace": {No, "user.max_net_namespaces"}},
		audit: true, enforce: true,
	},
	"container with a masked procfs": {
		flags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		spoil: func() error { return unix.Mount("tmpfs", "/proc/sys", "tmpfs", unix.MS_RDONLY, "") },
		want: map[string]expectation{
			"user namespace":           {Yes, ""},
			"fresh procfs in the jail": {No, "unmask"},
		},
		audit: true,
	},
	"container that filters namespaces": {
		spoil: func() error {
			return installFilter(refuseWhen(unix.SYS_CLONE, 0, unix.BPF_JSET, unix.CLONE_NEWUSER, unix.EPERM), 0)
		},
		want:  map[string]expectation{"user namespace": {No, "EPERM"}},
		audit: true,
	},
	"user namespaces without capabilities": { // AppArmor, Ubuntu since 23.10
		spoil: refuse(unix.EPERM, unix.SYS_UNSHARE),
		want: map[string]expectation{
			"user namespace":                     {Yes, ""},
			"mount namespace":                    {No, "unshare(CLONE_NEWNS): EPERM"},
			"network namespace":                  {No, "EPERM"},
			"overlay with whiteouts in the jail": {Unknown, "no mount namespace"},
		},
		audit: true,
	},
	"landlock not in the kernel": {
		spoil: refuse(unix.ENOSYS, unix.SYS_LANDLOCK_CREATE_RULESET),
		want:  map[string]expectation{"landlock": {No, "CONFIG_SECURITY_LANDLOCK"}},
		audit: true,
	},
	"landlock switched off at boot": {
		spoil: refuse(unix.EOPNOTSUPP, unix.SYS_LANDLOCK_CREATE_RULESET),
		want:  map[string]expectation{"landlock": {No, "lsm=landlock"}},
		audit: true,
	},
	"landlock that can't be entered": {
		spoil: refuse(unix.E2BIG, unix.SYS_LANDLOCK_RESTRICT_SELF),
		want:  map[string]expectation{"landlock": {No, "landlock_restrict_self: E2BIG"}},
		audit: true,
	},
	"seccomp forbidden": {
		spoil: refuse(unix.EPERM, unix.SYS_SECCOMP),
		want: map[string]expectation{
			"seccomp filter":                    {No, "EPERM"},
			"seccomp user notification":         {No, "EPERM"},
			"notification: continue":            {Unknown, "no notification"},
			"notification: wait killable":       {Unknown, "no notification"},
			"notification: synchronous wake-up": {Unknown, "no notification"},
		},
	},
	"seccomp not in the kernel": {
		spoil: refuse(unix.ENOSYS, unix.SYS_SECCOMP),
		want:  map[string]expectation{"seccomp user notification": {No, "SECCOMP_GET_NOTIF_SIZES): ENOSYS"}},
	},
	"another supervisor": {
		spoil: func() error {
			notifyElsewhere := refuseProgram(unix.SECCOMP_RET_USER_NOTIF, unix.SYS_PERSONALITY)
			return installFilter(notifyElsewhere, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH)
		},
		want: map[string]expectation{
			"seccomp filter":              {Yes, ""},
			"seccomp user notification":   {No, "another depguard"},
			"notification: wait killable": {Unknown, "EBUSY"},
		},
	},
	"listener that answers nothing": { // Linux 5.0 to 5.4 refuse CONTINUE so
		spoil: func() error {
			return installFilter(refuseWhen(unix.SYS_IOCTL, 1, unix.BPF_JEQ, unix.SECCOMP_IOCTL_NOTIF_SEND, unix.EINVAL), 0)
		},
		want: map[string]expectation{
			"seccomp user notification":         {Yes, ""},
			"notification: continue":            {No, "CONTINUE): EINVAL"},
			"notification: synchronous wake-up": {Yes, ""},
		},
	},
	"listener without flags": { // Linux before 6.6
		spoil: func() error {
			return installFilter(refuseWhen(unix.SYS_IOCTL, 1, unix.BPF_JEQ, unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.EINVAL), 0)
		},
		want:  map[string]expectation{"notification: synchronous wake-up": {No, "Linux 6.6"}},
		audit: true, enforce: true,
	},
	"listener without wait killable": { // Linux before 5.19
		spoil: func() error {
			return installFilter(refuseWhen(unix.SYS_SECCOMP, 1, unix.BPF_JSET, unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, unix.EINVAL), 0)
		},
		want: map[string]expectation{
			"seccomp user notification":   {Yes, ""},
			"notification: wait killable": {No, "Linux 5.19"},
		},
		audit: true, enforce: true,
	},
	"memory read only through procfs": {
		spoil: refuse(unix.EPERM, unix.SYS_PROCESS_VM_READV),
		want:  map[string]expectation{"reading a child's memory": {Yes, "/proc/PID/mem"}},
		audit: true, enforce: true,
	},
	"no openat2": {
		spoil: refuse(unix.ENOSYS, unix.SYS_OPENAT2),
		want:  map[string]expectation{"openat2": {No, "Linux 5.6"}},
	},
	"no mount_setattr": {
		spoil: refuse(unix.ENOSYS, unix.SYS_MOUNT_SETATTR),
		want:  map[string]expectation{"mount_setattr": {No, "Linux 5.12"}},
		audit: true,
	},
	"files without birth times": {
		spoil: func() error { return os.Chdir("/proc") },
		want:  map[string]expectation{"birth time of files here": {No, "keeps none"}},
		audit: true, enforce: true,
	},
	"deleted working directory": {
		spoil: inDeletedDirectory,
		want:  map[string]expectation{"landlock": {Yes, "ABI"}},
		audit: true, enforce: true,
	},
	"no pseudo-terminals": {
		flags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		spoil: func() error { return unix.Mount("tmpfs", "/dev", "tmpfs", 0, "") },
		want:  map[string]expectation{"pseudo-terminal": {No, "mount -t devpts"}},
		audit: true, enforce: true,
	},
	"cgroups read-only": {
		flags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		spoil: readOnlyCgroups,
		want:  map[string]expectation{"cgroup v2": {No, "mkdir in"}},
		audit: true, enforce: true,
	},
	"hardly a descriptor left": {
		spoil: func() error { return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 8, Max: 8}) },
		want: map[string]expectation{
			"procfs":                   {Yes, ""},
			"reading a child's memory": {Unknown, "too many open files"},
		},
	},
}

// refuse spoils the place with a filter that answers errno to the calls.
func refuse(errno unix.Errno, calls ...uint32) func() error {
	return func() error {
		return installFilter(refuseProgram(unix.SECCOMP_RET_ERRNO|uint32(errno), calls...), 0)
	}
}

// refuseProgram takes action on the calls and lets every other through.
func refuseProgram(action uint32, calls ...uint32) []unix.SockFilter {
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}}
	for _, call := range calls {
		program = append(program,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: call},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action})
	}
	return append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
}

// refuseWhen answers errno to call when jump holds for the low half of its
// argument.
func refuseWhen(call uint32, argument int, jump uint16, operand uint32, errno unix.Errno) []unix.SockFilter {
	argumentAt := uint32(16 + 8*argument) // offsetof(struct seccomp_data, args), little endian
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: call},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: argumentAt},
		{Code: unix.BPF_JMP | jump | unix.BPF_K, Jf: 1, K: operand},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
}

// installFilter puts the whole process under program.
func installFilter(program []unix.SockFilter, flags uint) error {
	if err := noNewPrivs(); err != nil {
		return err
	}
	_, err := loadFilter(program, flags|unix.SECCOMP_FILTER_FLAG_TSYNC)
	return err
}

// bareChroot enters the root file system without the mounts on it.
func bareChroot() error {
	dir, err := os.MkdirTemp("", "depguard-probe-test-")
	if err != nil {
		return err
	}
	if err := unix.Mount("/", dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	for _, name := range []string{"proc", "dev", "sys"} {
		if err := unix.Mount("tmpfs", filepath.Join(dir, name), "tmpfs", 0, ""); err != nil {
			return err
		}
	}
	if err := unix.Chroot(dir); err != nil {
		return err
	}
	return os.Chdir("/")
}

func inDeletedDirectory() error {
	dir, err := os.MkdirTemp("", "depguard-probe-test-")
	if err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	return os.Remove(dir)
}

// readOnlyCgroups remounts every version 2 hierarchy read-only.
func readOnlyCgroups() error {
	mounts, err := mountsOf("cgroup2")
	for _, m := range mounts {
		if err := unix.Mount(m.point, m.point, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		const kept = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC // locked where the host has them
		if err := unix.Mount("", m.point, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|kept, ""); err != nil {
			return err
		}
	}
	return err
}

func TestHostilePlaces(t *testing.T) {
	here := All(t.Context())
	requires(t, Possible(here, Enforce), "the machine itself can't enforce: "+names(Missing(here, Enforce)))
	for name, place := range hostilePlaces {
		t.Run(name, func(t *testing.T) {
			features := allIn(t, name, place.flags)
			for feature, want := range place.want {
				checkFeature(t, features, feature, want)
			}
			if got := Possible(features, Audit); got != place.audit {
				t.Errorf("audit possible: %v, want %v; missing: %s", got, place.audit, names(Missing(features, Audit)))
			}
			if got := Possible(features, Enforce); got != place.enforce {
				t.Errorf("enforce possible: %v, want %v; missing: %s", got, place.enforce, names(Missing(features, Enforce)))
			}
		})
	}
}

// allIn runs All in a hostile place.
func allIn(t *testing.T, place string, flags uintptr) []Feature {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), hostileEnv+"="+place, "TMPDIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if flags&unix.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	output, err := cmd.Output()
	if err != nil || complaints.Len() > 0 {
		t.Fatalf("the doctor in this place: %v\n%s", err, complaints.String())
	}
	var features []Feature
	if err := json.Unmarshal(output, &features); err != nil {
		t.Fatalf("%v in %q", err, output)
	}
	if len(features) != len(table) {
		t.Fatalf("%d features came out, want %d", len(features), len(table))
	}
	return features
}

func checkFeature(t *testing.T, features []Feature, name string, want expectation) {
	t.Helper()
	i := slices.IndexFunc(features, func(f Feature) bool { return f.Name == name })
	if i < 0 {
		t.Fatalf("no feature %q", name)
	}
	f := features[i]
	if f.Outcome != want.outcome || !strings.Contains(f.Detail+"\n"+f.Remedy, want.text) {
		t.Errorf("%s: %v, %q, remedy %q; want %v with %q", name, f.Outcome, f.Detail, f.Remedy, want.outcome, want.text)
	}
	if f.Outcome != Yes && (f.Detail == "" || f.Consequence == "" || f.Remedy == "") {
		t.Errorf("%s: %v without reason, consequence or remedy: %+v", name, f.Outcome, f)
	}
}

func names(features []Feature) string {
	var s []string
	for _, f := range features {
		s = append(s, f.Name+" ("+f.Outcome.String()+": "+f.Detail+")")
	}
	return strings.Join(s, ", ")
}
