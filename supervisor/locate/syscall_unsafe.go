package locate

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/policy/allowlist"
)

// x/sys/unix takes paths as strings and copies them to add the NUL. On the
// path of every open that is one allocation too many: these wrappers take the
// path in a buffer that has room for the NUL.

// pathPointer returns name NUL-terminated. When its buffer has no room left,
// it is copied.
func pathPointer(name []byte) unsafe.Pointer {
	if len(name) == cap(name) {
		name = append(make([]byte, 0, len(name)+1), name...)
	}
	terminated := name[:len(name)+1]
	if terminated[len(name)] != 0 {
		// The byte behind a parent directory is the slash before its child.
		terminated = append(append(make([]byte, 0, len(name)+1), name...), 0)
	}
	return unsafe.Pointer(&terminated[0])
}

const resolveRetries = 8 // a rename elsewhere in the tree makes openat2 give up with EAGAIN

func openPath(dir int, name []byte, noFollow bool, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve}
	if noFollow {
		how.Flags |= unix.O_NOFOLLOW
	}
	pointer := pathPointer(name)
	for try := 0; ; try++ {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT2, uintptr(dir), uintptr(pointer),
			uintptr(unsafe.Pointer(&how)), unix.SizeofOpenHow, 0, 0)
		if errno == 0 {
			return int(fd), nil
		}
		if (errno != unix.EAGAIN && errno != unix.EINTR) || try == resolveRetries {
			return -1, errno
		}
	}
}

func readLink(name, buf []byte) int {
	n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(atFDCWD), uintptr(pathPointer(name)),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), 0, 0)
	if errno != 0 || int(n) == len(buf) {
		return 0
	}
	return int(n)
}

var atFDCWD = unix.AT_FDCWD // a variable: the constant does not convert to uintptr

var emptyPath = [1]byte{}

func statFD(fd int, f *File) error {
	var st unix.Statx_t
	_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(&emptyPath)), unix.AT_EMPTY_PATH,
		unix.STATX_TYPE|unix.STATX_MODE|unix.STATX_INO|unix.STATX_BTIME, uintptr(unsafe.Pointer(&st)), 0)
	if errno != 0 {
		return errno
	}
	f.ID = allowlist.IdentityOf(&st)
	f.Mode = uint32(st.Mode)
	return nil
}
