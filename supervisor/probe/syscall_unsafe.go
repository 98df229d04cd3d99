package probe

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// notifSizes are the sizes of the kernel's notification structures, in bytes
// (struct seccomp_notif_sizes, seccomp(2)).
type notifSizes struct{ notif, resp, data uint16 }

// askNotifSizes asks the kernel for them (SECCOMP_GET_NOTIF_SIZES, Linux 5.0).
func askNotifSizes() (notifSizes, error) {
	var sizes notifSizes
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&sizes)))
	return sizes, asError(errno)
}

// loadFilter installs program on the calling thread (SECCOMP_SET_MODE_FILTER,
// seccomp(2)). With SECCOMP_FILTER_FLAG_NEW_LISTENER it returns the listener.
func loadFilter(program []unix.SockFilter, flags uint) (listener int, err error) {
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	r, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program) // reachable only through prog, which the compiler sees as a number
	return int(r), asError(errno)
}

// exchange passes a notification structure to the listener's receive or send
// request (seccomp_unotify(2)). The kernel reads and writes as many bytes as
// askNotifSizes said. Preconditions: message has at least that many.
func exchange(listener int, request uint, message []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), uintptr(request), uintptr(unsafe.Pointer(&message[0])))
	return asError(errno)
}

// createRuleset makes a Landlock ruleset (landlock_create_ruleset(2)).
func createRuleset(attr *unix.LandlockRulesetAttr) (fd int, err error) {
	// Only the first field: the later ones belong to later ABIs.
	size := unsafe.Sizeof(attr.Handled_access_fs)
	r, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(attr)), size, 0)
	return int(r), asError(errno)
}

// asError makes an errno an error; 0 is none.
func asError(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
