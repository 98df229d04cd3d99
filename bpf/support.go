package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// Outcome is the answer of a probe.
type Outcome uint8

// The three outcomes. The zero value claims nothing.
const (
	CouldNotTell Outcome = iota
	Yes
	No
)

// String returns the outcome as doctor prints it.
func (o Outcome) String() string {
	switch o {
	case Yes:
		return "yes"
	case No:
		return "no"
	}
	return "could not tell"
}

// Support is what a probe found out about the running kernel.
type Support struct {
	Outcome Outcome
	Reason  string // why not, and what to do; empty for Yes
	Err     error  // what the kernel said; nil for Yes
}

// UnsupportedError is returned by Open on a machine that cannot have the
// witness. It matches errors.ErrUnsupported.
type UnsupportedError struct {
	Support
}

// Error returns the reason, what to do about it, and what the kernel said.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("tracing programs are not available: %s (%v)", e.Reason, e.Err)
}

// Unwrap returns what the kernel said.
func (e *UnsupportedError) Unwrap() error { return e.Err }

// Is reports whether target is errors.ErrUnsupported.
func (e *UnsupportedError) Is(target error) bool { return target == errors.ErrUnsupported }

// Probe loads a program of two instructions of the type that the witness
// uses, and unloads it.
func Probe() Support {
	return probe(&ebpf.ProgramSpec{
		Type:       ebpf.Tracing,
		AttachType: ebpf.AttachTraceRawTp,
		AttachTo:   "sys_exit",
	})
}

// ProbeLSM does the same for programs on the hooks of Linux security modules
// (BPF_PROG_TYPE_LSM, Linux 5.7). It tells that they load, not that "bpf" is
// in the list of active modules (/sys/kernel/security/lsm).
func ProbeLSM() Support {
	return probe(&ebpf.ProgramSpec{
		Type:       ebpf.LSM,
		AttachType: ebpf.AttachLSMMac,
		AttachTo:   "file_open",
	})
}

func probe(spec *ebpf.ProgramSpec) Support {
	spec.Name = "depguard_probe"
	spec.License = "Dual BSD/GPL"
	spec.Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}
	prog, err := ebpf.NewProgramWithOptions(spec, ebpf.ProgramOptions{LogDisabled: true})
	if err != nil {
		return explain(err)
	}
	prog.Close()
	return Support{Outcome: Yes}
}

// explain turns the error of a load into an outcome and a reason a person can
// act on.
func explain(err error) Support {
	s := Support{Err: err}
	switch {
	case denied(err):
		s.Reason = "CAP_BPF and CAP_PERFMON are missing in the initial user namespace; " +
			"run as root there, or grant both"
	case errors.Is(err, unix.EPERM):
		s.Outcome = No
		s.Reason = "this kernel refuses programs of this type to root; " +
			"lockdown, a security module or missing trampoline support can be why"
	case errors.Is(err, btf.ErrNotFound):
		s.Outcome = No
		s.Reason = "this kernel's type information lacks what the programs need; " +
			"use a kernel of 5.12 or later"
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
		s.Outcome = No
		s.Reason = "this kernel lacks what the programs need; " +
			"use one of 5.12 or later built with CONFIG_BPF_SYSCALL, CONFIG_BPF_EVENTS and CONFIG_DEBUG_INFO_BTF"
	default:
		s.Reason = "loading failed for another reason; see the error"
	}
	return s
}

// loadError returns an *UnsupportedError when err says that this machine, or
// this user, can't have the programs.
func loadError(err error) error {
	if s := explain(err); s.Outcome == No || denied(err) {
		return &UnsupportedError{s}
	}
	return fmt.Errorf("load tracing programs: %w", err)
}

// denied reports whether err is the kernel's answer to missing privileges.
// The library takes some refusals for a missing feature.
func denied(err error) bool {
	return (errors.Is(err, unix.EPERM) || errors.Is(err, ebpf.ErrNotSupported)) && !privileged()
}

// initialUserNamespace is the inode number of the first user namespace,
// PROC_USER_INIT_INO in include/linux/proc_ns.h.
const initialUserNamespace = 0xEFFFFFFD

// privileged reports whether the calling thread may load tracing programs
// (capabilities(7)). It is false when that can't be found out: a refusal
// then counts as "could not tell".
func privileged() bool {
	var ns unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/user", &ns); err != nil || ns.Ino != initialUserNamespace {
		return false
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	has := func(capability int) bool {
		return data[capability/32].Effective&(1<<(capability%32)) != 0
	}
	return has(unix.CAP_SYS_ADMIN) || has(unix.CAP_BPF) && has(unix.CAP_PERFMON)
}
