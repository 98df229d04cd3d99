package jail

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// waitKillable makes a call whose notification was received wait for the answer
// through every signal but a fatal one (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
// Linux 5.19). Without it a handler restarts the call, and it is notified of
// again.
const waitKillable = unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV

// installFilter puts the calling thread under program and returns the listener.
// The other threads of this process go unfiltered; exec ends them.
func installFilter(program []unix.SockFilter) (int, error) {
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	install := func(flags uintptr) (int, unix.Errno) {
		fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
		return int(fd), errno
	}
	fd, errno := install(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | waitKillable)
	if errno == unix.EINVAL {
		fd, errno = install(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	}
	runtime.KeepAlive(program)
	switch errno {
	case 0:
		return fd, nil
	case unix.EBUSY:
		return -1, errors.New("install the seccomp filter: this process is already under a notification filter, and the kernel allows one: depguard cannot run inside another depguard, or a container that uses one")
	}
	return -1, fmt.Errorf("install the seccomp filter: %w", errno)
}
