package notify

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// errHidden says that the kernel does not let us read a task's memory: it made
// itself undumpable (prctl(2), PR_SET_DUMPABLE), and depguard lacks
// CAP_SYS_PTRACE.
var errHidden = errors.New("the task's memory is not ours to read")

// memory reads the memory of tasks. Its buffers are reused.
type memory struct {
	local  [1]unix.Iovec
	remote [1]unix.RemoteIovec
}

const pageSize = 4096 // the smallest page of any machine: reads stop at its boundaries

// read fills buf from address addr of task tid and returns how many bytes
// were there before the memory ended.
func (m *memory) read(tid int, addr uint64, buf []byte) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	m.local[0].Base = &buf[0]
	m.local[0].SetLen(len(buf))
	m.remote[0] = unix.RemoteIovec{Base: uintptr(addr), Len: len(buf)}
	n, err := unix.ProcessVMReadv(tid, m.local[:], m.remote[:], 0)
	m.local[0].Base = nil
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSYS):
		return readProcMem(tid, addr, buf)
	}
	return 0, err
}

// readProcMem serves kernels that refuse process_vm_readv(2): without
// CONFIG_CROSS_MEMORY_ATTACH, or under a container's seccomp profile.
func readProcMem(tid int, addr uint64, buf []byte) (int, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", tid))
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			return 0, errHidden
		}
		return 0, err
	}
	defer f.Close()
	n, err := f.ReadAt(buf, int64(addr))
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// readString reads the string at addr up to its NUL, at most len(buf) bytes,
// and returns the part of buf that holds it, without the NUL. It reads to the
// end of the page first, because the next one need not be there. A string
// without a NUL in len(buf) bytes is ENAMETOOLONG.
func (m *memory) readString(tid int, addr uint64, buf []byte) ([]byte, error) {
	for have := 0; have < len(buf); {
		here := addr + uint64(have)
		want := min(pageSize-int(here%pageSize), len(buf)-have)
		n, err := m.read(tid, here, buf[have:have+want])
		if err != nil {
			return nil, err
		}
		if end := bytes.IndexByte(buf[have:have+n], 0); end >= 0 {
			return buf[:have+end], nil
		}
		if n < want {
			return nil, unix.EFAULT
		}
		have += n
	}
	return nil, unix.ENAMETOOLONG
}
