package notify

import (
	"bytes"
	"errors"
	"os"
	"testing"

	seccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// The numbers of abi.go are held against libseccomp's.
func TestABINumbers(t *testing.T) {
	arches := map[string]seccomp.ScmpArch{
		"x86-64": seccomp.ArchAMD64, "x32": seccomp.ArchX32, "i386": seccomp.ArchX86, "arm64": seccomp.ArchARM64, "arm": seccomp.ArchARM,
	}
	rootNames := [6]string{"chroot", "pivot_root", "setns", "mount", "umount2", "move_mount"}
	for _, a := range abis {
		calls := map[string]int32{
			"open": a.open, "creat": a.creat, "openat": a.openat, "openat2": a.openat2, "execve": a.execve, "execveat": a.execveat,
			"io_uring_setup": a.ioUring, "open_by_handle_at": a.handle,
		}
		if a.socketcall < 0 {
			calls["connect"] = a.connect // where there is a socketcall, libseccomp has a pseudo number for connect
		}
		for i, name := range rootNames {
			calls[name] = a.roots[i]
		}
		for name, number := range calls {
			want, err := seccomp.GetSyscallFromNameByArch(name, arches[a.name])
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			expected := int32(want) &^ a.bit
			if want < 0 {
				expected = -1
			}
			if number != expected {
				t.Errorf("%s %s: number %d, libseccomp says %d", a.name, name, number, expected)
			}
		}
	}
}

func TestLayoutOfForeignNumbers(t *testing.T) {
	for _, r := range []Request{
		{Arch: unix.AUDIT_ARCH_X86_64, Nr: 0},
		{Arch: unix.AUDIT_ARCH_X86_64, Nr: -1},
		{Arch: unix.AUDIT_ARCH_PPC64, Nr: 5},
		{Arch: unix.AUDIT_ARCH_I386, Nr: 257},
	} {
		if how, _ := layoutOf(&r); how.op != Unknown {
			t.Errorf("%+v was taken for operation %d", r, how.op)
		}
	}
	if how, narrow := layoutOf(&Request{Arch: unix.AUDIT_ARCH_X86_64, Nr: x32Bit | 520}); how.op != Exec || narrow {
		t.Errorf("x32 execve: operation %d, narrow %v", how.op, narrow)
	}
}

// twoPages maps two pages of which the second cannot be read.
func twoPages(t *testing.T) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, 2*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	if err := unix.Mprotect(b[pageSize:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadString(t *testing.T) {
	var m memory
	buf := make([]byte, unix.PathMax)
	pages := twoPages(t)

	atEnd := pages[pageSize-6:]
	copy(atEnd, "hello\x00")
	got, err := m.readString(os.Getpid(), address(atEnd), buf)
	if err != nil || string(got) != "hello" {
		t.Errorf("a string that ends with its page: %q, %v", got, err)
	}
	copy(atEnd, "hello!")
	if _, err := m.readString(os.Getpid(), address(atEnd), buf); !errors.Is(err, unix.EFAULT) {
		t.Errorf("a string that runs into an unreadable page: %v, want EFAULT", err)
	}
	if _, err := m.readString(os.Getpid(), 8, buf); !errors.Is(err, unix.EFAULT) {
		t.Errorf("a bad pointer: %v, want EFAULT", err)
	}
	long := append(bytes.Repeat([]byte("a"), 3*pageSize), 0)
	if _, err := m.readString(os.Getpid(), address(long), buf); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a string of %d bytes: %v, want ENAMETOOLONG", len(long)-1, err)
	}
	longest := append(bytes.Repeat([]byte("b"), unix.PathMax-1), 0)
	got, err = m.readString(os.Getpid(), address(longest), buf)
	if err != nil || len(got) != unix.PathMax-1 {
		t.Errorf("the longest path: %d bytes, %v", len(got), err)
	}
}

func TestReadStringOfAGoneTask(t *testing.T) {
	var m memory
	if _, err := m.readString(1<<30, 4096, make([]byte, 16)); err == nil {
		t.Error("the memory of a task that does not exist was read")
	}
}
