package filter

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// machine interprets a seccomp program. x/net/bpf loads words in network
// order, the kernel loads the words of struct seccomp_data in its own: the
// data is laid out big-endian here, and the words come out right.
type machine struct{ vm *bpf.VM }

func newMachine(t *testing.T, f Filter) machine {
	t.Helper()
	program, err := f.Compile()
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]bpf.RawInstruction, len(program))
	for i, in := range program {
		raw[i] = bpf.RawInstruction{Op: in.Code, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	instructions, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("libseccomp made an instruction that the interpreter does not know")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	return machine{vm}
}

func (m machine) run(t *testing.T, arch, nr uint32, arg0 uint32) uint32 {
	t.Helper()
	data := binary.BigEndian.AppendUint32(nil, nr)
	data = binary.BigEndian.AppendUint32(data, arch)
	data = append(data, make([]byte, 8)...)
	data = binary.BigEndian.AppendUint32(data, arg0) // low word first on little-endian machines
	data = append(data, make([]byte, 44)...)
	got, err := m.vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(got)
}

const (
	x32       = 0x40000000
	retNotify = unix.SECCOMP_RET_USER_NOTIF
	retAllow  = unix.SECCOMP_RET_ALLOW
	retENOSYS = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

func TestActions(t *testing.T) {
	amd64, i386, arm := uint32(unix.AUDIT_ARCH_X86_64), uint32(unix.AUDIT_ARCH_I386), uint32(unix.AUDIT_ARCH_AARCH64)
	cases := []struct {
		name             string
		arch, nr, arg0   uint32
		observe, enforce uint32
	}{
		{"openat", amd64, 257, 0, retNotify, retNotify},
		{"open", amd64, 2, 0, retNotify, retNotify},
		{"creat", amd64, 85, 0, retNotify, retNotify},
		{"openat2", amd64, 437, 0, retNotify, retNotify},
		{"execve", amd64, 59, 0, retNotify, retNotify},
		{"execveat", amd64, 322, 0, retNotify, retNotify},
		{"connect", amd64, 42, 0, retNotify, retNotify},
		{"chroot", amd64, 161, 0, retNotify, retNotify},
		{"read", amd64, 0, 0, retAllow, retAllow},
		{"close", amd64, 3, 0, retAllow, retAllow},
		{"clone", amd64, 56, 0, retAllow, retAllow},
		{"io_uring_setup", amd64, 425, 0, retNotify, retENOSYS},
		{"open_by_handle_at", amd64, 304, 0, retNotify, retENOSYS},
		{"fsopen", amd64, 430, 0, retAllow, retENOSYS},
		{"open_tree", amd64, 428, 0, retAllow, retENOSYS},
		{"x32 openat", amd64, 257 | x32, 0, retNotify, retNotify},
		{"x32 execve", amd64, 520 | x32, 0, retNotify, retNotify},
		{"x32 read", amd64, 0 | x32, 0, retAllow, retAllow},
		{"x32 io_uring_setup", amd64, 425 | x32, 0, retNotify, retENOSYS},
		{"i386 open", i386, 5, 0, retNotify, retNotify},
		{"i386 openat", i386, 295, 0, retNotify, retNotify},
		{"i386 execve", i386, 11, 0, retNotify, retNotify},
		{"i386 connect", i386, 362, 0, retNotify, retNotify},
		{"i386 socketcall connect", i386, 102, 3, retNotify, retNotify},
		{"i386 socketcall bind", i386, 102, 2, retAllow, retAllow},
		{"i386 read", i386, 3, 0, retAllow, retAllow},
		{"i386 io_uring_setup", i386, 425, 0, retNotify, retENOSYS},
		{"a foreign ABI", arm, 56, 0, retENOSYS, retENOSYS},
	}
	observe, enforce := newMachine(t, Observe()), newMachine(t, Enforce())
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := observe.run(t, c.arch, c.nr, c.arg0); got != c.observe {
				t.Errorf("observe: action %#x, want %#x", got, c.observe)
			}
			if got := enforce.run(t, c.arch, c.nr, c.arg0); got != c.enforce {
				t.Errorf("enforce: action %#x, want %#x", got, c.enforce)
			}
		})
	}
}

func TestRefuseIOUring(t *testing.T) {
	base := Observe()
	m := newMachine(t, base.RefuseIOUring())
	if got := m.run(t, unix.AUDIT_ARCH_X86_64, 425, 0); got != retENOSYS {
		t.Errorf("io_uring_setup: action %#x, want ENOSYS", got)
	}
	if got := newMachine(t, base).run(t, unix.AUDIT_ARCH_X86_64, 425, 0); got != retNotify {
		t.Errorf("RefuseIOUring changed the filter it was called on: action %#x", got)
	}
}

func TestUnknownCallIsAnError(t *testing.T) {
	if _, err := (Filter{Notify: []string{"no_such_call"}}).Compile(); err == nil {
		t.Error("a filter for a call that libseccomp does not know was compiled")
	}
}

func TestDecode(t *testing.T) {
	program, err := Observe().Compile()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(Encode(program))
	if err != nil {
		t.Fatal(err)
	}
	for i := range program {
		if program[i] != again[i] {
			t.Fatalf("instruction %d: %v became %v", i, program[i], again[i])
		}
	}
	for _, bad := range [][]byte{nil, make([]byte, 7), make([]byte, 9)} {
		if _, err := Decode(bad); err == nil {
			t.Errorf("%d bytes were taken for a program", len(bad))
		}
	}
}
