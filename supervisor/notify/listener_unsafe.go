package notify

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawNotif is struct seccomp_notif with struct seccomp_data inside
// (linux/seccomp.h).
type rawNotif struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// rawResp is struct seccomp_notif_resp.
type rawResp struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

// checkSizes asks the kernel whether its structures are the ones declared
// here: they may grow, and then a receive would write past ours.
func checkSizes() error {
	var sizes struct{ notif, resp, data uint16 }
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&sizes)))
	if errno != 0 {
		return fmt.Errorf("this kernel has no seccomp user notification (Linux 5.0): %w", errno)
	}
	if uintptr(sizes.notif) != unsafe.Sizeof(rawNotif{}) || uintptr(sizes.resp) != unsafe.Sizeof(rawResp{}) {
		return fmt.Errorf("this kernel's seccomp notifications have %d and %d bytes, this depguard knows %d and %d: a newer depguard is needed",
			sizes.notif, sizes.resp, unsafe.Sizeof(rawNotif{}), unsafe.Sizeof(rawResp{}))
	}
	return nil
}

func (l *Listener) ioctl(request uintptr, arg unsafe.Pointer) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), request, uintptr(arg))
	return errno
}

func (l *Listener) receive() unix.Errno {
	l.notif = rawNotif{} // the kernel refuses a structure that is not zeroed (EINVAL)
	return l.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&l.notif))
}

func (l *Listener) send() unix.Errno {
	return l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&l.resp))
}

func (l *Listener) idValid(id uint64) unix.Errno {
	return l.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id))
}

// setSyncWakeUp passes its flags by value, unlike the other requests.
func (l *Listener) setSyncWakeUp() unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	return errno
}
