package probe

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// What the child's memory holds at the address it names. The two texts have
// one length and differ, so that reading the wrong process shows.
const (
	parentText = "memory of depguard itself"
	childText  = "memory of depguard's kid."
)

// marker holds parentText in depguard and childText in the child.
var marker = [len(parentText)]byte([]byte(parentText))

// playMemory says where marker is and waits to be dismissed.
func playMemory() {
	copy(marker[:], childText)
	fmt.Printf("%p\n", &marker)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// tryMemory reads a child's memory as the supervisor reads the paths that
// calls name: with process_vm_readv(2), or else through /proc/PID/mem. Yama (ptrace_scope 1) permits descendants,
// which is what the processes of a build are.
func tryMemory(m *machine) finding {
	kid, err := startChild(m.ctx, "memory", nil)
	if err != nil {
		return unknown("not tried: no child process: %v", err)
	}
	found := readMarker(kid)
	if err := kid.finish(); err != nil && found.outcome == Yes {
		return unknown("the trial's child: %v", err)
	}
	return found
}

// readMarker asks kid for its address and reads what is there.
func readMarker(kid *child) finding {
	var address uintptr
	if _, err := fmt.Fscanf(kid.stdout, "%v\n", &address); err != nil {
		return unknown("the trial's child did not say where to read: %v", err)
	}
	got := make([]byte, len(childText))
	how := "process_vm_readv"
	err := readMemory(kid.cmd.Process.Pid, address, got)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		how = fmt.Sprintf("/proc/PID/mem (process_vm_readv: %v)", err)
		err = readProcMem(kid.cmd.Process.Pid, address, got)
	}
	switch {
	case err != nil:
		return memoryRefused(how, err)
	case string(got) != childText:
		return unknown("%s gave %q instead of the child's memory", how, got)
	}
	return yes("%s%s", how, yama())
}

// readMemory fills buf with process_vm_readv(2).
func readMemory(pid int, address uintptr, buf []byte) error {
	local := unix.Iovec{Base: &buf[0]}
	local.SetLen(len(buf))
	remote := unix.RemoteIovec{Base: address, Len: len(buf)}
	_, err := unix.ProcessVMReadv(pid, []unix.Iovec{local}, []unix.RemoteIovec{remote}, 0)
	return err
}

// readProcMem fills buf through /proc/PID/mem, which the supervisor falls back
// to where the system call is missing or filtered.
func readProcMem(pid int, address uintptr, buf []byte) error {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return err
	}
	defer func() { _ = mem.Close() }()
	_, err = mem.ReadAt(buf, int64(address))
	return err
}

// memoryRefused names the setting of Yama that refuses, when it does.
func memoryRefused(how string, err error) finding {
	found := failure(how, err)
	if scope := sysctl("kernel.yama.ptrace_scope"); scope == "2" || scope == "3" {
		found.detail += ", kernel.yama.ptrace_scope is " + scope
		found.remedy = "sysctl -w kernel.yama.ptrace_scope=1 (3 can't be lowered without a reboot)"
	}
	return found
}

// yama names the setting that governs reading other processes, if there is one.
func yama() string {
	scope := sysctl("kernel.yama.ptrace_scope")
	if scope == "" {
		return ""
	}
	return ", kernel.yama.ptrace_scope is " + scope
}
