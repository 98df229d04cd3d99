package notify

import "golang.org/x/sys/unix"

// Operation is what a notified call wants, whatever its ABI and number.
type Operation uint8

// The operations that a filter notifies of.
const (
	Unknown    Operation = iota
	Open                 // open, creat, openat
	Open2                // openat2
	Exec                 // execve
	ExecAt               // execveat
	Connect              // connect
	SocketCall           // socketcall(SYS_CONNECT) of i386
	Root                 // chroot, mount and others after which paths may mean something else
	IOUring              // io_uring_setup
	FileHandle           // open_by_handle_at
)

// layout says where a call keeps its arguments: indexes into Request.Args, -1
// for an argument that the call does not have.
type layout struct {
	op         Operation
	dir, path  int
	flags      int
	fixedFlags uint64 // the flags of a call that has none of its own (creat)
}

var (
	openLayout     = layout{op: Open, dir: -1, path: 0, flags: 1}
	creatLayout    = layout{op: Open, dir: -1, path: 0, flags: -1, fixedFlags: unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC}
	openatLayout   = layout{op: Open, dir: 0, path: 1, flags: 2}
	openat2Layout  = layout{op: Open2, dir: 0, path: 1, flags: -1}
	execveLayout   = layout{op: Exec, dir: -1, path: 0, flags: -1}
	execveatLayout = layout{op: ExecAt, dir: 0, path: 1, flags: 4}
)

// x32Bit marks the system calls of the x32 ABI, which share the audit
// architecture of x86-64 (arch/x86/include/uapi/asm/unistd.h).
const x32Bit = 0x40000000

// abi is one ABI's numbers for the calls that a filter notifies of. A number
// that the ABI does not have is -1.
type abi struct {
	name       string
	arch       uint32
	bit        int32 // set in every number
	narrow     bool  // pointers and longs are 32 bits wide
	open       int32
	creat      int32
	openat     int32
	openat2    int32
	execve     int32
	execveat   int32
	connect    int32
	socketcall int32
	roots      [6]int32
	ioUring    int32
	handle     int32
}

// abis is the table of ABIs (arch/*/entry/syscalls/*.tbl of the kernel). A test
// holds it against libseccomp's.
var abis = []abi{
	{name: "x86-64", arch: unix.AUDIT_ARCH_X86_64, open: 2, creat: 85, openat: 257, openat2: 437, execve: 59, execveat: 322,
		connect: 42, socketcall: -1, roots: [6]int32{161, 155, 308, 165, 166, 429}, ioUring: 425, handle: 304},
	{name: "x32", arch: unix.AUDIT_ARCH_X86_64, bit: x32Bit, open: 2, creat: 85, openat: 257, openat2: 437, execve: 520, execveat: 545,
		connect: 42, socketcall: -1, roots: [6]int32{161, 155, 308, 165, 166, 429}, ioUring: 425, handle: 304},
	{name: "i386", arch: unix.AUDIT_ARCH_I386, narrow: true, open: 5, creat: 8, openat: 295, openat2: 437, execve: 11, execveat: 358,
		connect: 362, socketcall: 102, roots: [6]int32{61, 217, 346, 21, 52, 429}, ioUring: 425, handle: 342},
	{name: "arm64", arch: unix.AUDIT_ARCH_AARCH64, open: -1, creat: -1, openat: 56, openat2: 437, execve: 221, execveat: 281,
		connect: 203, socketcall: -1, roots: [6]int32{51, 41, 268, 40, 39, 429}, ioUring: 425, handle: 265},
	{name: "arm", arch: unix.AUDIT_ARCH_ARM, narrow: true, open: 5, creat: 8, openat: 322, openat2: 437, execve: 11, execveat: 387,
		connect: 283, socketcall: -1, roots: [6]int32{61, 218, 375, 21, 52, 429}, ioUring: 425, handle: 371},
}

// layoutOf returns how the call of r is laid out, and whether its pointers are
// 32 bits wide.
func layoutOf(r *Request) (layout, bool) {
	for i := range abis {
		a := &abis[i]
		if a.arch != r.Arch || r.Nr&x32Bit != a.bit {
			continue
		}
		return a.layout(r.Nr &^ a.bit), a.narrow
	}
	return layout{}, false
}

func (a *abi) layout(nr int32) layout {
	switch nr {
	case a.openat:
		return openatLayout
	case a.open:
		return openLayout
	case a.openat2:
		return openat2Layout
	case a.creat:
		return creatLayout
	case a.execve:
		return execveLayout
	case a.execveat:
		return execveatLayout
	case a.connect:
		return layout{op: Connect}
	case a.socketcall:
		return layout{op: SocketCall}
	case a.ioUring:
		return layout{op: IOUring}
	case a.handle:
		return layout{op: FileHandle}
	}
	for _, root := range a.roots {
		if nr == root {
			return layout{op: Root}
		}
	}
	return layout{}
}
