package probe

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// refusals are the errnos with which a kernel, a security module or a seccomp
// filter says that a feature isn't to be had. Every other errno (no memory, too
// many open files, a file that is gone) is a failure of the trial.
var refusals = map[unix.Errno]string{
	unix.ENOSYS:     "not in this kernel, or hidden by a seccomp filter around this process",
	unix.EOPNOTSUPP: "in this kernel, but switched off",
	unix.EPERM:      "not permitted to this user, or refused by a security module or a seccomp filter",
	unix.EACCES:     "no permission",
	unix.EINVAL:     "this kernel does not know the request",
	unix.ENODEV:     "not in this kernel, or a module that is not loaded",
	unix.ENOSPC:     "a limit is reached",
	unix.EROFS:      "read-only here",
	unix.EUSERS:     "nested too deeply",
	unix.EBUSY:      "already in use",
	unix.E2BIG:      "too many on top of each other",
}

// failure sorts an error of a trial into No and Unknown. call is the system
// call or the file that failed. err must not be nil.
func failure(call string, err error) finding {
	errno, ok := errors.AsType[unix.Errno](err)
	if !ok {
		return finding{detail: fmt.Sprintf("%s: %v", call, err)}
	}
	detail := fmt.Sprintf("%s: %s", call, unix.ErrnoName(errno))
	reason, refused := refusals[errno]
	if !refused {
		return finding{detail: fmt.Sprintf("%s (%v)", detail, errno)}
	}
	return finding{outcome: No, detail: fmt.Sprintf("%s (%s)", detail, reason)}
}

// yes is the finding of a trial that worked.
func yes(format string, args ...any) finding {
	return finding{outcome: Yes, detail: fmt.Sprintf(format, args...)}
}

// unknown is the finding of a trial that could not be carried out.
func unknown(format string, args ...any) finding {
	return finding{detail: fmt.Sprintf(format, args...)}
}

// no is the finding of a trial that was refused.
func no(format string, args ...any) finding {
	return finding{outcome: No, detail: fmt.Sprintf(format, args...)}
}

// sysctl returns the value of a kernel parameter named as sysctl(8) names it,
// and the empty string when this kernel has none of that name or does not show
// it.
func sysctl(name string) string {
	value, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(value))
}
